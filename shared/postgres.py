"""Connections to PostgreSQL: every one names its process and has time-outs that end what hangs."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson
import psycopg

from shared.settings import Settings

# Transactions that write MongoDB hold this advisory lock shared; whoever must keep them out takes it exclusively.
READ_MODELS_LOCK = 0x6B617461  # "kata"
# Held by the process that replays, for as long as it does: one at a time.
REPLAY_LOCK = 0x6B617472  # "katr"
# Held while validators are looked at and changed, so that no older one replaces a newer.
VALIDATORS_LOCK = 0x6B617476  # "katv"

# Whoever purges tombstones holds this one, so that one projector does at a time.
TOMBSTONES_LOCK = 0x746F6D62  # "tomb"

# So does a projector that takes a sample of the read models.
SAMPLER_LOCK = 0x73616D70  # "samp"

WAKE_CHANNEL = "outbox_wake"
SETTLED_CHANNEL = "outbox_settled"
DEAD_CHANNEL = "outbox_dead"

# They speak of the server, of its tables or of the session, and not of what was asked: later it can be done. The last
# two are no OperationalErrors: the server became a standby, or ended a transaction in which this process stood still.
UNAVAILABLE: Final = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.UndefinedTable,
    psycopg.errors.InsufficientPrivilege,
    psycopg.errors.ReadOnlySqlTransaction,
    psycopg.errors.IdleInTransactionSessionTimeout,
)

# What a session has that says nothing else. Whoever stands still in a transaction, or is cut off in one, keeps others
# from the rows it has locked: the server ends that.
IDLE_IN_TRANSACTION_MILLISECONDS = 30_000
# Nor does it keep a session, and its locks, for a peer that is gone without a word. By itself it would for two hours.
SERVER_KEEPALIVES: Mapping[str, int] = {
    "tcp_keepalives_idle": 10,
    "tcp_keepalives_interval": 3,
    "tcp_keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}

KEEPALIVES: Mapping[str, int] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}


def to_json(value: Any) -> str:
    """Return `value` as JSON; times become RFC 3339 in UTC with Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()


def plain_array(values: Iterable[int | str]) -> str:
    """Return numbers, or words that have the quotes they need, as an array's text: a fifth of what the driver takes."""
    return f"{{{','.join(map(str, values))}}}"


def connection_arguments(settings: Settings, application_name: str, session: Mapping[str, str | int]) -> dict[str, Any]:
    """Return what psycopg's connect takes beside the DSN. `session` holds server settings, times in milliseconds."""
    usual = {"idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_MILLISECONDS, **SERVER_KEEPALIVES}
    options = " ".join(f"-c {name}={value}" for name, value in {**usual, **session}.items())
    return {
        "application_name": application_name,
        "connect_timeout": settings.connect_timeout_seconds,
        "options": options,
        **KEEPALIVES,
    }


def connect(
    settings: Settings, application_name: str, *, autocommit: bool = False, **session: str | int
) -> psycopg.Connection:
    """Open one connection. `session` holds server settings such as statement_timeout, times in milliseconds."""
    return psycopg.connect(
        settings.database_url.get_secret_value(),
        autocommit=autocommit,
        **connection_arguments(settings, application_name, session),
    )


async def connect_async(
    settings: Settings, application_name: str, *, autocommit: bool = True, **session: str | int
) -> psycopg.AsyncConnection:
    """Open one asynchronous connection. `session` holds server settings, times in milliseconds."""
    return await psycopg.AsyncConnection.connect(
        settings.database_url.get_secret_value(),
        autocommit=autocommit,
        **connection_arguments(settings, application_name, session),
    )
