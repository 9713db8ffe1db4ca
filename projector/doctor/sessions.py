"""What stands in the way inside PostgreSQL: transactions left open, and locks.

Looked at as maintenance, which may see what the sessions of other roles do.
"""

from collections.abc import Iterator
from typing import Final

from projector.connection import SERVER_MARGIN_SECONDS
from projector.doctor.connection import Row, ask
from projector.doctor.finding import Finding, NotSeenError, Severity
from projector.settings import ProjectorSettings
from shared.postgres import READ_MODELS_LOCK

# Nobody here waits for a lock this long, or keeps everybody out of the read models.
LONG_SECONDS: Final = 3.0

# One that holds neither locks nor the horizon stands in nobody's way.
IDLE_IN_TRANSACTION: Final = """
    SELECT pid, application_name, usename AS role, client_addr::text AS client,
           to_char(state_change, 'YYYY-MM-DD HH24:MI:SS TZ') AS since,
           extract(epoch FROM clock_timestamp() - state_change)::float8 AS seconds,
           greatest(age(backend_xmin), age(backend_xid)) AS horizon_age,
           locks.held AS locks
    FROM pg_stat_activity
    CROSS JOIN LATERAL (
        SELECT string_agg(DISTINCT format('%%s on %%s', mode, relation::regclass), ', ') AS held
        FROM pg_locks JOIN pg_class ON pg_class.oid = relation
        WHERE pg_locks.pid = pg_stat_activity.pid AND granted AND relkind IN ('r', 'p')
    ) AS locks
    WHERE datname = current_database() AND state LIKE 'idle in transaction%%'
      AND state_change < clock_timestamp() - make_interval(secs => %(seconds)s)
      AND (locks.held IS NOT NULL OR backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
    ORDER BY state_change
"""

# What PostgreSQL shows of the sessions of others, it shows to members of this role and to superusers.
HIDDEN: Final = """
    SELECT current_user AS role, count(*) AS sessions FROM pg_stat_activity
    WHERE datname = current_database() AND usename <> current_user
      AND NOT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')
      AND NOT pg_has_role(current_user, usename, 'USAGE')
    HAVING count(*) > 0
"""

PREPARED: Final = """
    SELECT gid, owner::text AS role, to_char(prepared, 'YYYY-MM-DD HH24:MI:SS TZ') AS since,
           age(transaction) AS horizon_age
    FROM pg_prepared_xacts
    WHERE database = current_database() AND prepared < clock_timestamp() - make_interval(secs => %(seconds)s)
"""

# An inactive slot keeps the log for somebody who may never come, and perhaps the horizon.
SLOTS: Final = """
    SELECT slot_name AS slot, slot_type AS type, greatest(age(xmin), age(catalog_xmin)) AS horizon_age,
           pg_size_pretty(pg_wal_lsn_diff(
               CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn
           )) AS log_kept
    FROM pg_replication_slots
    WHERE NOT active AND (xmin IS NOT NULL OR catalog_xmin IS NOT NULL OR restart_lsn IS NOT NULL)
"""

WAITS: Final = """
    SELECT blocker.pid, blocker.application_name, blocker.state, blocker.usename AS role,
           count(*) AS waiting, max(extract(epoch FROM clock_timestamp() - lock.waitstart))::float8 AS seconds,
           string_agg(DISTINCT waiter.application_name, ', ') AS waiters,
           string_agg(DISTINCT CASE WHEN locktype = 'advisory' THEN 'an advisory lock'
                                    WHEN relation IS NOT NULL THEN 'the table ' || relation::regclass
                                    ELSE 'a row' END, ', ') AS what
    FROM pg_locks AS lock
    JOIN pg_stat_activity AS waiter ON waiter.pid = lock.pid AND waiter.datname = current_database()
    CROSS JOIN LATERAL unnest(pg_blocking_pids(lock.pid)) AS blocking (pid)
    JOIN pg_stat_activity AS blocker ON blocker.pid = blocking.pid
    WHERE NOT lock.granted AND lock.waitstart < clock_timestamp() - make_interval(secs => %(seconds)s)
    GROUP BY blocker.pid, blocker.application_name, blocker.state, blocker.usename
"""

# Relays hold it shared, a moment each; clean and the swap of a replay exclusively, as briefly.
EXCLUSIVE: Final = """
    SELECT pid, application_name, state, usename AS role,
           extract(epoch FROM clock_timestamp() - coalesce(xact_start, state_change))::float8 AS seconds
    FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND classid = 0 AND objid = %(key)s AND objsubid = 1 AND mode = 'ExclusiveLock' AND granted
"""


def leave_no_transaction_open(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for transactions in which nothing has happened for longer than a batch may take."""
    seconds = settings.batch_deadline_seconds + SERVER_MARGIN_SECONDS
    for row in ask(settings.for_maintenance(), IDLE_IN_TRANSACTION, seconds=seconds):
        holds = [f"the xmin horizon, {row['horizon_age']} transactions back"] if row["horizon_age"] is not None else []
        holds += [row["locks"]] if row["locks"] else []
        yield Finding(
            f"{_session(row)} is idle in a transaction since {row['since']} ({row['seconds']:.0f} s) and holds "
            + " and ".join(holds),
            _terminate(row),
            Severity.WARNING,
            row,
        )
    for row in ask(settings, PREPARED, seconds=seconds):
        yield Finding(
            f"the prepared transaction '{row['gid']}' of {row['role']} is neither committed nor rolled back since "
            f"{row['since']} and holds its locks and the xmin horizon, {row['horizon_age']} transactions back",
            f"as an administrator: `ROLLBACK PREPARED '{row['gid']}'`, unless its coordinator will commit it",
            Severity.WARNING,
            row,
        )


def hide_nothing(settings: ProjectorSettings) -> Iterator[Finding]:
    """Say which sessions the checks of transactions and locks do not see."""
    for row in ask(settings.for_maintenance(), HIDDEN):
        raise NotSeenError(
            f"PostgreSQL does not show {row['role']} what the {row['sessions']} of them do: "
            f'`GRANT pg_monitor TO "{row["role"]}"`'
        )
    yield from ()


def keep_no_idle_slots(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for replication slots that nobody reads."""
    for row in ask(settings, SLOTS):
        holds = "" if row["horizon_age"] is None else f" and the xmin horizon, {row['horizon_age']} transactions back"
        yield Finding(
            f"nobody reads the {row['type']} slot {row['slot']}: it keeps {row['log_kept']} of its log{holds}",
            "start the standby or consumer it is for; if that will not come back: "
            f"as an administrator: `SELECT pg_drop_replication_slot('{row['slot']}')`",
            Severity.WARNING,
            row,
        )


def wait_for_no_lock(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for long waits for locks, and for who keeps everybody out of the read models."""
    blockers = set()
    for row in ask(settings.for_maintenance(), WAITS, seconds=LONG_SECONDS):
        blockers.add(row["pid"])
        yield Finding(
            f"{row['waiters']} wait since {row['seconds']:.0f} s for {row['what']}, held by {_session(row)}, "
            f"which is {row['state']}",
            _terminate(row),
            details=row,
        )
    for row in ask(settings.for_maintenance(), EXCLUSIVE, key=READ_MODELS_LOCK):
        if row["seconds"] >= LONG_SECONDS and row["pid"] not in blockers:
            yield Finding(
                f"{_session(row)} keeps every projector out of the read models (an exclusive advisory lock) for "
                f"{row['seconds']:.0f} s",
                _terminate(row),
                details=row,
            )


def _session(row: Row) -> str:
    return f"PostgreSQL's session {row['pid']} ({row['application_name'] or 'unnamed'}, {row['role']})"


def _terminate(row: Row) -> str:
    return f"end what it is; if it does not end, as an administrator: `SELECT pg_terminate_backend({row['pid']})`"
