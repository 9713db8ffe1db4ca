"""Databases inside a running PostgreSQL."""

from devstack.errors import ServerError


def ensure_database(dsn: str, name: str) -> None:
    """Create the database unless it exists.

    The dsn leads to another database of the same server. Raises ServerError.
    """
    import psycopg  # noqa: PLC0415 - a fifth of a second that other commands need not spend
    from psycopg import sql  # noqa: PLC0415

    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            if connection.execute("SELECT FROM pg_database WHERE datname = %s", (name,)).fetchone() is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        message = f"The database {name} cannot be made: {str(error).strip()}"
        raise ServerError(message) from None
