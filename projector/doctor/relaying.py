"""Is anybody relaying, and how does it go: lag, failures, and batches that take far longer than usual."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final

from projector import dead_letters
from projector.doctor.connection import NAME, ask, connect_postgres
from projector.doctor.finding import Finding, Severity
from projector.settings import ProjectorSettings
from projector.status import read_overview, read_status, silence

# A projector holds a connection for as long as it runs, whatever it waits for. A lane beats when it is idle and with
# every batch.
LANES: Final = """
    SELECT (SELECT count(*) FROM outbox) AS backlog,
           extract(epoch FROM clock_timestamp() - max(heartbeat))::float8 AS silent_seconds,
           (SELECT string_agg(DISTINCT substring(application_name FROM '^kata-projector [^ ]+'), ', ')
            FROM pg_stat_activity WHERE datname = current_database()) AS running
    FROM projectors
"""

# The batches in hand. A lane that waits for the server of its next statement is one that waits for MongoDB.
IN_HAND: Final = """
    SELECT application_name AS name, extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds,
           CASE wait_event_type WHEN 'Client' THEN 'MongoDB' WHEN 'Lock' THEN 'a lock' END AS waits_for
    FROM pg_stat_activity
    WHERE datname = current_database() AND xact_start IS NOT NULL
"""
# PostgreSQL cuts an application_name here.
NAME_LENGTH: Final = 63
# Far slower than usual, and so slow that it comes near to being given up.
SLOWER: Final = 5.0
DEADLINE_SHARE: Final = 0.25

GROUPS_SHOWN: Final = 3


def be_at_work(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for a projector, and for a lane of it that has done something lately."""
    (row,) = ask(settings, LANES)
    waiting = f"{row['backlog']} messages wait" if row["backlog"] else "no message waits now"
    if not row["running"]:
        yield Finding(
            f"no projector is running: {waiting}, and no write becomes visible",
            "start one, and let something start it again when it ends: `projector run`",
            details=row,
        )
    elif row["silent_seconds"] is None or row["silent_seconds"] > silence(settings):
        since = "ever" if row["silent_seconds"] is None else f"for {row['silent_seconds']:.0f} s"
        yield Finding(
            f"{row['running']} is running and has relayed nothing {since}: {waiting}",
            "its `/ready` and its log line `relay.waiting` say for what it waits: "
            f"`curl localhost:{settings.projector_http_port}/ready`",
            details=row,
        )


def keep_up(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare the lag to the setting."""
    now = read_status(settings, NAME)
    if now.lag_seconds >= settings.lag_degraded_seconds:
        yield Finding(
            f"the oldest message that is not settled is {now.lag_seconds:.0f} s old; {now.backlog:,} wait, "
            f"{now.failures:,} of them for another attempt",
            "`projector status --watch`: a backlog that shrinks is only much, and more projectors help as long as "
            "cores do; of one that does not, the other findings tell the cause",
            Severity.WARNING,
            {"lag_seconds": now.lag_seconds, "backlog": now.backlog, "failures": now.failures},
        )


def take_no_longer_than_usual(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare the last batches of the projectors, and those in hand, to what batches took lately."""
    projectors = {p.name[:NAME_LENGTH]: p for p in read_overview(settings, NAME).projectors if p.state == "at work"}
    least = settings.batch_deadline_seconds * DEADLINE_SHARE
    in_hand = [row for row in ask(settings, IN_HAND) if row["name"] in projectors]
    batches = [(row["name"], "the batch in hand has taken", row["seconds"], row["waits_for"]) for row in in_hand]
    batches += [(name, "the last batch took", p.batch_seconds or 0.0, None) for name, p in projectors.items()]
    for name, what, seconds, waits_for in batches:
        usual = projectors[name].usual_batch_seconds or 0.0
        if seconds > max(least, usual * SLOWER):
            yield Finding(
                f"{what} {seconds:.1f} s, usual are {usual:.3f} s ({name}"
                + (f", it waits for {waits_for})" if waits_for else ")"),
                "see what is busy in MongoDB (`db.currentOp({active: true})` in an administrator's mongosh) "
                "and PostgreSQL: the findings on locks; a batch that reaches BATCH_DEADLINE_SECONDS is given up and "
                "comes again, so lower BATCH_SIZE if batches always do",
                Severity.WARNING,
                {"projector": name, "seconds": seconds, "usual_seconds": usual, "waits_for": waits_for},
            )


def have_no_dead_letters(settings: ProjectorSettings) -> Iterator[Finding]:
    """Count dead letters by their error."""
    with connect_postgres(settings) as connection:
        groups = dead_letters.groups(connection)
    if groups:
        number = sum(group.number for group in groups)
        shown = "; ".join(f"{group.number:,} times {group.error}" for group in groups[:GROUPS_SHOWN])
        more = f"; and {len(groups) - GROUPS_SHOWN} other errors" if len(groups) > GROUPS_SHOWN else ""
        yield Finding(
            f"{number:,} dead letter{'s' if number > 1 else ''}: {shown}{more}",
            f"`projector dead-letters show {groups[0].first_id}` tells one in full; when the cause is mended "
            "`projector dead-letters retry --all`, or `discard` what shall never be applied",
            details={"dead_letters": number, "groups": [asdict(group) for group in groups[:GROUPS_SHOWN]]},
        )
