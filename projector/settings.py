"""Settings of the projector, beside those every process has."""

from pydantic import Field

from shared.settings import Port, Settings


class ProjectorSettings(Settings):
    """How the relay works and where the projector answers HTTP."""

    projector_http_host: str = Field(default="127.0.0.1", description="Address of /health, /ready and /metrics")
    projector_http_port: Port = Field(default=8001, description="Port of /health, /ready and /metrics; 0 chooses")
    batch_size: int = Field(default=1000, ge=1, le=5000, description="Messages claimed at once")
    batch_deadline_seconds: float = Field(
        default=10, ge=1, le=300, description="A batch that takes longer is given up and tried again"
    )
    poll_interval_seconds: float = Field(
        default=0.2, ge=0.01, le=60, description="How long an idle lane sleeps when no notification arrives"
    )
    fan_out_step: int = Field(default=1000, ge=1, le=10_000, description="Items corrected at once after a rename")
    fan_out_budget_seconds: float = Field(
        default=0.2, ge=0, le=10, description="How long one batch may spend on a rename before neighbours go on"
    )
    disk_free_percent_least: float = Field(
        default=10, ge=0, le=100, description="With less room on a server's disk `projector doctor` says so"
    )
