"""SQLAlchemy's engines, for those who use it: commands and migrations. Their connections are like everybody's."""

from collections.abc import Mapping
from typing import Any, Final

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import Pool

from shared.postgres import connection_arguments, to_json
from shared.settings import Settings

# The driver reads the DSN, as it does everywhere else: it knows forms that SQLAlchemy's own URL does not.
ENGINE_URL: Final = "postgresql+psycopg://"


def engine_arguments(settings: Settings, application_name: str, session: Mapping[str, str | int]) -> dict[str, Any]:
    """Return what SQLAlchemy's engines take as connect_args, beside ENGINE_URL."""
    dsn = conninfo_to_dict(settings.database_url.get_secret_value())
    return {**dsn, **connection_arguments(settings, application_name, session)}


def create_engine(
    settings: Settings,
    application_name: str,
    *,
    pool_class: type[Pool] | None = None,
    pool_size: int,
    pool_timeout: float,
    **session: str | int,
) -> AsyncEngine:
    """Return an engine whose pool never grows: `pool_size` connections, `pool_timeout` seconds to wait for one."""
    return create_async_engine(
        ENGINE_URL,
        connect_args=engine_arguments(settings, application_name, session),
        poolclass=pool_class,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_recycle=1800,
        json_serializer=to_json,
        hide_parameters=True,
    )
