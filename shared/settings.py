"""Settings come from the environment, are checked once at the start, frozen, and passed down.

A setting X may be read from the file that X_FILE names instead, for secrets. X itself wins when both are set.
"""

import os
import re
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pymongo import MongoClient
from pymongo.errors import InvalidURI, PyMongoError

USAGE_ERROR = 2

Port = Annotated[int, Field(ge=0, le=65535)]

POSTGRES_FORM: Final = "expected postgresql://user:password@host:port/database"
MONGO_FORM: Final = "expected mongodb://host:port/?replicaSet=name"
ESCAPED: Final = "; characters such as @ / : % in user and password are written as %40 %2F %3A %25"

OTLP_FORM: Final = "expected http://host:port or https://host:port"
TRACING_MODULES: Final = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter")
TRACING_MISSING: Final = "tracing is not installed here: pip install 'backend-kata[tracing]'"

# What others call the same: Heroku, and SQLAlchemy with the driver's name.
_POSTGRES_SCHEMES: Final = re.compile(r"(postgres|postgresql|postgresql\+psycopg)://")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_CERTIFICATES: Final = ("sslrootcert", "sslcert", "sslkey")
_PORTS: Final = re.compile(r"[0-9,]*")


class SettingsError(ValueError):
    """One line per wrong setting: its name, what was wrong with it and what was expected."""


class FileSource(PydanticBaseSettingsSource):
    """Reads the setting X from the file that the environment variable X_FILE names."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002 - the base class fixes the signature
        """Return the content of the named file without its last line break, or None."""
        variable = f"{field_name.upper()}_FILE"
        path = os.environ.get(variable)
        if not path or os.environ.get(field_name.upper()):
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n"), field_name, False
        except (OSError, UnicodeDecodeError) as error:
            # Without the path: whoever confuses the two puts the secret itself there.
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"{variable}: cannot read the file it names: {reason}") from None

    def __call__(self) -> dict[str, Any]:
        """Return every setting that has a file."""
        values = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in values.items() if value is not None}


class Settings(BaseSettings):
    """What every process needs: the two databases and how to log."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True)

    database_url: SecretStr = Field(
        default=SecretStr("postgresql://postgres:postgres@127.0.0.1:5432/kata"),
        description="PostgreSQL, the write model: postgresql://user:password@host:port/database",
    )
    mongo_url: SecretStr = Field(
        default=SecretStr("mongodb://127.0.0.1:27017/?replicaSet=rs0"),
        description="MongoDB, the read models: mongodb://host:port/?replicaSet=name",
    )
    migration_database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL for Alembic, as the owner of the tables; none: DATABASE_URL"
    )
    maintenance_database_url: SecretStr | None = Field(
        default=None, description="PostgreSQL for replay, verify and clean_mongo.py; none: DATABASE_URL"
    )
    maintenance_mongo_url: SecretStr | None = Field(
        default=None, description="MongoDB for replay, verify and clean_mongo.py; none: MONGO_URL"
    )
    mongo_database: str = Field(
        default="kata", pattern=r"^[A-Za-z0-9_-]{1,60}$", description="Name of the MongoDB database"
    )
    connect_timeout_seconds: int = Field(default=5, ge=1, le=60, description="How long to try to reach a database")
    lag_degraded_seconds: float = Field(default=30, ge=0, description="From this lag on /ready says degraded")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged")
    log_format: Literal["auto", "console", "json"] = Field(
        default="auto", description="auto: console on a terminal, JSON otherwise"
    )
    otel_exporter_otlp_endpoint: str = Field(
        default="", description="Where spans go by OTLP over HTTP, such as http://collector:4318; none: no tracing"
    )

    @field_validator("database_url", "migration_database_url", "maintenance_database_url")
    @classmethod
    def _is_postgres(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        scheme = _POSTGRES_SCHEMES.match(value.get_secret_value())
        if scheme is None:
            raise ValueError(POSTGRES_FORM)
        plain = f"postgresql://{value.get_secret_value()[scheme.end() :]}"
        try:
            # The driver's own reading: what it refuses later, it quotes, password and all.
            read = {name: str(part) for name, part in conninfo_to_dict(plain).items()}
        except psycopg.ProgrammingError:
            raise ValueError(POSTGRES_FORM + ESCAPED) from None
        if "@" in read.get("host", "") + read.get("dbname", "") or not _PORTS.fullmatch(read.get("port", "")):
            raise ValueError(POSTGRES_FORM + ESCAPED)
        if not read.get("dbname"):
            raise ValueError(f"{POSTGRES_FORM}, the database name is missing")
        if read.get("sslmode", "prefer") not in _SSL_MODES:
            raise ValueError(f"its sslmode is none of {', '.join(_SSL_MODES)}")
        for name in _CERTIFICATES:
            if (path := read.get(name, "system")) != "system" and not os.access(path, os.R_OK):
                raise ValueError(f"the file that its {name} names cannot be read")
        return SecretStr(plain)

    @field_validator("mongo_url", "maintenance_mongo_url")
    @classmethod
    def _is_mongo(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None or value.get_secret_value().startswith(
            "mongodb+srv://"
        ):  # to read it, the driver asks the name server
            return value
        if not value.get_secret_value().startswith("mongodb://"):
            raise ValueError(MONGO_FORM)
        try:
            with warnings.catch_warnings():
                # Of an option that it does not know, or of `tls=yes`, the driver warns, and goes on without it.
                warnings.simplefilter("error", UserWarning)
                MongoClient[Any](value.get_secret_value(), connect=False).close()
        except OSError as error:
            raise ValueError(f"a file of certificates that it names cannot be used: {error.strerror}") from None
        except (InvalidURI, ValueError):
            raise ValueError(MONGO_FORM + ESCAPED) from None
        except (PyMongoError, UserWarning):
            raise ValueError("an option behind its ? is unknown, contradicts another, or has no such value") from None
        return value

    @field_validator("otel_exporter_otlp_endpoint")
    @classmethod
    def _can_trace(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError(OTLP_FORM)
        if value and not all(map(find_spec, TRACING_MODULES)):
            raise ValueError(TRACING_MISSING)
        return value

    def for_migrations(self) -> Self:
        """Return the settings under which migrations run."""
        return self.model_copy(update={"database_url": self.migration_database_url or self.database_url})

    def for_maintenance(self) -> Self:
        """Return the settings under which read models are rebuilt, compared, repaired and emptied."""
        return self.model_copy(
            update={
                "database_url": self.maintenance_database_url or self.database_url,
                "mongo_url": self.maintenance_mongo_url or self.mongo_url,
            }
        )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class fixes the signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the base class fixes the signature
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take arguments, then the environment, then files. No .env file is looked for."""
        return init_settings, env_settings, FileSource(settings_cls)

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Return the settings of this environment.

        Raises SettingsError that names every wrong setting and what was expected of it, never its value.
        """
        try:
            return cls(**overrides)
        except ValidationError as error:
            lines = [_describe(cls, problem["loc"], problem["msg"]) for problem in error.errors()]
            raise SettingsError("\n".join(lines)) from error

    @classmethod
    def load_or_exit(cls, **overrides: Any) -> Self:
        """Return the settings, or say on stderr what is wrong and exit with status 2."""
        try:
            return cls.load(**overrides)
        except SettingsError as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(USAGE_ERROR)


def _describe(settings: type[Settings], location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]) if location else "settings"
    field = settings.model_fields.get(name)
    meaning = f" ({field.description})" if field and field.description else ""
    return f"{name.upper()}: {message.removeprefix('Value error, ')}{meaning}"
