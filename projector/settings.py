"""Settings of the projector, beside those every process has."""

from pydantic import Field

from shared.access import LOOPBACK, AccessSettings
from shared.settings import Port


class ProjectorSettings(AccessSettings):
    """How the relay works and where the projector answers HTTP."""

    projector_http_host: str = Field(
        default=LOOPBACK, description="Address of the web page, /health, /ready and /metrics"
    )
    projector_http_port: Port = Field(
        default=8001, description="Port of the web page, /health, /ready and /metrics; 0 chooses"
    )
    batch_size: int = Field(default=1000, ge=1, le=5000, description="Messages claimed at once")
    batch_deadline_seconds: float = Field(
        default=10, ge=1, le=300, description="A batch that takes longer is given up and tried again"
    )
    max_attempts: int = Field(default=5, ge=2, le=100, description="A message that failed so often is a dead letter")
    retry_pause_seconds: float = Field(
        default=1, ge=0, le=300, description="Pause after a message's first failure; it doubles, up to five minutes"
    )
    poll_interval_seconds: float = Field(
        default=0.2, ge=0.01, le=60, description="How long an idle lane sleeps when no notification arrives"
    )
    fan_out_step: int = Field(default=4000, ge=1, le=10_000, description="Items corrected at once after a rename")
    fan_out_budget_seconds: float = Field(
        default=0.15, ge=0, le=10, description="How long one batch may spend on a rename before neighbours go on"
    )
    tombstone_days: int = Field(
        default=7, ge=1, le=365, description="How long the tombstone of a delete is kept at least"
    )
    verify_sample_seconds: float = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How often a projector compares some documents with their rows; 0: never",
    )
    verify_sample_size: int = Field(
        default=200, ge=1, le=10_000, description="About how many documents of each read model are compared then"
    )
    disk_free_percent_least: float = Field(
        default=10, ge=0, le=100, description="With less room on a server's disk `projector doctor` says so"
    )

    @property
    def http_host(self) -> str:
        """Where HTTP is asked to be answered."""
        return self.projector_http_host
