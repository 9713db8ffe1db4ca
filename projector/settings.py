"""Settings of the projector, beside those every process has."""

from ipaddress import ip_address
from typing import Final

from pydantic import Field, field_validator

from shared.bearer import Tokens
from shared.settings import Port, Settings

LOOPBACK: Final = "127.0.0.1"


class ProjectorSettings(Settings):
    """How the relay works and where the projector answers HTTP."""

    projector_http_host: str = Field(
        default=LOOPBACK, description="Address of the web page, /health, /ready and /metrics"
    )
    projector_http_port: Port = Field(
        default=8001, description="Port of the web page, /health, /ready and /metrics; 0 chooses"
    )
    tokens: str = Field(
        default="", description="Who may act on the web page: entries that `projector token NAME` prints, one or more"
    )
    allow_insecure_bind: bool = Field(
        default=False, description="Without TOKENS, listen on PROJECTOR_HTTP_HOST all the same, not only on loopback"
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
    fan_out_step: int = Field(default=1000, ge=1, le=10_000, description="Items corrected at once after a rename")
    fan_out_budget_seconds: float = Field(
        default=0.2, ge=0, le=10, description="How long one batch may spend on a rename before neighbours go on"
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

    @field_validator("tokens")
    @classmethod
    def _are_tokens(cls, value: str) -> str:
        Tokens.parse(value)
        return value

    @property
    def http_address(self) -> str:
        """Where HTTP is answered: without tokens on this machine alone, unless that is waived in so many words."""
        host = self.projector_http_host
        return host if self.tokens.strip() or self.allow_insecure_bind or is_loopback(host) else LOOPBACK


def is_loopback(host: str) -> bool:
    """Return whether an address, or `localhost`, is reached from this machine only."""
    try:
        return host == "localhost" or ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
