"""SQLAlchemy's engine with the product's settings, for rivals that use it."""

from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from shared.engine import ENGINE_URL, engine_arguments
from shared.settings import Settings


def create_engine(
    settings: Settings,
    application_name: str,
    *,
    pool_size: int,
    pool_timeout: float,
    **session: str | int,
) -> AsyncEngine:
    """Return an engine whose pool never grows: `pool_size` connections, `pool_timeout` seconds to wait for one."""
    return create_async_engine(
        ENGINE_URL,
        connect_args=engine_arguments(settings, application_name, session),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=pool_timeout,
        pool_recycle=1800,
        hide_parameters=True,
    )
