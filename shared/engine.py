"""SQLAlchemy's engines, for migrations. Their connections are like everybody's."""

from collections.abc import Mapping
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict

from shared.postgres import connection_arguments
from shared.settings import Settings

# The driver reads the DSN, as it does everywhere else: it knows forms that SQLAlchemy's own URL does not.
ENGINE_URL: Final = "postgresql+psycopg://"


def engine_arguments(settings: Settings, application_name: str, session: Mapping[str, str | int]) -> dict[str, Any]:
    """Return what SQLAlchemy's engines take as connect_args, beside ENGINE_URL."""
    dsn = conninfo_to_dict(settings.database_url.get_secret_value())
    return {**dsn, **connection_arguments(settings, application_name, session)}
