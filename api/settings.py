"""Settings of the API, beside those every process has."""

from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from shared.access import LOOPBACK, AccessSettings
from shared.settings import Port


class ApiSettings(AccessSettings):
    """How the API listens, what it accepts and how long it waits."""

    api_host: str = Field(default=LOOPBACK, description="Address to listen on")
    api_port: Port = Field(default=8000, description="Port to listen on; 0 chooses")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Origins allowed by CORS, separated by commas"
    )
    max_body_bytes: int = Field(default=1_048_576, ge=1024, le=16_777_216, description="Largest request body")
    body_timeout_seconds: float = Field(
        default=10, gt=0, le=300, description="How long a request body may take to arrive before the answer is 408"
    )
    request_timeout_seconds: float = Field(
        default=10, gt=0, le=300,
        description="Longest time for everything behind a request; what the client prefers to wait comes on top",
    )  # fmt: skip
    database_pool_size: int = Field(default=10, ge=1, le=200, description="PostgreSQL connections of one API process")
    database_pool_timeout_seconds: float = Field(
        default=2, gt=0, le=60, description="How long a command waits for a free connection before it answers 503"
    )
    statement_timeout_seconds: float = Field(default=5, gt=0, le=60, description="Longest SQL statement of a command")
    read_timeout_seconds: float = Field(default=5, gt=0, le=60, description="Longest query of a read model")
    default_wait_seconds: float = Field(
        default=5, ge=0, le=30, description="How long a write waits for its projection unless the client says otherwise"
    )

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def http_host(self) -> str:
        """Where HTTP is asked to be answered."""
        return self.api_host
