"""The read models: whose are they, would MongoDB take what the projections make, and do they agree with the rows?"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from projector.doctor.connection import NAME, ask, connect_postgres, mongo_client
from projector.doctor.finding import Finding, Severity
from projector.settings import ProjectorSettings
from projector.status import read_overview
from shared.installation import ForeignReadModelsError, check_read_models
from shared.mongo import read_model_database
from shared.postgres import REPLAY_LOCK
from shared.read_models import READ_MODELS, ReadModel, shapes_of
from shared.shadows import shadow_names

# Code 121 is MongoDB's DocumentValidationFailure.
REFUSED: Final = """
    SELECT count(*) AS number, min(id) AS first, min(error) AS error
    FROM outbox_failures WHERE state IN ('dead', 'retrying') AND error LIKE '%%(code 121)' HAVING count(*) > 0
"""

# Whoever replays holds this lock from the beginning to the end.
REPLAYING: Final = """
    EXISTS (
        SELECT FROM pg_locks
        WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND classid = 0 AND objid = %(key)s AND objsubid = 1 AND granted
    )
"""

INTERRUPTED: Final = f"""
    SELECT id, aggregate_type || 's' AS read_model, state, copied, expected,
           to_char(updated_at, 'YYYY-MM-DD HH24:MI:SS TZ') AS since
    FROM replays WHERE ended_at IS NULL AND NOT {REPLAYING}
"""

# Which shadow somebody may go on with, and whether somebody is just making one.
EXPECTED: Final = f"SELECT (SELECT shadow FROM replays WHERE ended_at IS NULL) AS shadow, {REPLAYING} AS replaying"

KINDS: Final = ("missing", "stale", "orphaned", "different")


def be_ours(settings: ProjectorSettings) -> Iterator[Finding]:
    """Compare the mark of the read models to the installation."""
    with connect_postgres(settings) as connection, mongo_client(settings) as client:
        try:
            check_read_models(connection, read_model_database(client, settings))
        except ForeignReadModelsError as error:
            cause, _, remedy = str(error).rpartition(": ")
            yield Finding(cause, remedy)


def take_what_we_write(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for documents that MongoDB refused, and for validators and indexes that are not those of this code."""
    refused = ask(settings, REFUSED)
    with mongo_client(settings) as client:
        database = read_model_database(client, settings)
        validators = {
            found["name"]: found["options"].get("validator")
            for found in database.list_collections(filter={"type": "collection"})
        }
        indexes = {
            model.name: set(database[model.name].index_information())
            for model in READ_MODELS
            if model.name in validators
        }
    for row in refused:
        yield Finding(
            f"MongoDB's validator rejects documents ({row['number']:,} failed, the first of message {row['first']}): "
            f"{row['error']}",
            "if a finding below says that a validator is not that of this version, mend that; otherwise the validator "
            "and the projections of this version disagree: deploy a version that agrees; then "
            "`projector dead-letters retry --all`",
            details=row,
        )
    known = [model for model in READ_MODELS if model.name in validators]
    for model in known:
        yield from _check_validator(model, validators[model.name] or {})
    without = [
        f"{model.name}.{index.name}"
        for model in known
        for index in model.indexes
        if index.name not in indexes[model.name]
    ]
    if without:
        yield Finding(
            f"indexes are missing: {', '.join(without)}",
            "start a projector again: at its start `projector run` makes them",
            Severity.WARNING,
            {"indexes": without},
        )


def _check_validator(model: ReadModel, validator: Mapping[str, Any]) -> Iterator[Finding]:
    shapes = shapes_of(validator)
    if max(shapes, default=0) > model.shape:
        yield Finding(
            f"{model.name} takes documents of shape {max(shapes)}, which a newer version makes; this one makes shape "
            f"{model.shape}",
            f"deploy the newer version here, too; when that deploy is undone: `projector replay {model.table} "
            "--take-back`",
            Severity.WARNING,
            {"collection": model.name, "shapes": sorted(shapes)},
        )
    elif validator != model.validator_beside(validator):
        yield Finding(
            f"the validator of {model.name} is not that of this version: somebody changed it, or no projector of this "
            "version has been started",
            "start a projector of this version: at its start `projector run` sets the validators",
            Severity.WARNING,
            {"collection": model.name},
        )
    elif min(shapes) < model.shape:
        yield Finding(
            f"documents of {model.name} may have shape {min(shapes)} still; this version makes shape {model.shape}",
            f"`projector replay {model.table}` brings every document into it",
            Severity.WARNING,
            {"collection": model.name, "shapes": sorted(shapes)},
        )


def finish_replays(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for a replay that nobody goes on with, and for read models whose last one failed."""
    # Asked again, because one that ends between the two looks of the statement is neither at work nor interrupted.
    if ask(settings, INTERRUPTED, key=REPLAY_LOCK):
        for row in ask(settings, INTERRUPTED, key=REPLAY_LOCK):
            yield Finding(
                f"the replay of {row['read_model']} was interrupted at {row['since']} while {row['state']}, after "
                f"{row['copied']:,} of {row['expected']:,} rows; until it ends, every write is written twice",
                f"`projector replay {row['read_model']}` goes on where it was, `projector replay --cancel` gives it up",
                Severity.WARNING,
                row,
            )
    for replay in read_overview(settings, NAME).replays:
        if replay.state == "failed":
            name = f"{replay.aggregate_type}s"
            yield Finding(
                f"the last replay of {name} failed: {replay.error}",
                f"mend that, then `projector replay {name}`; what was there before it is served meanwhile",
                Severity.WARNING,
                {"read_model": name, "error": replay.error},
            )


def leave_no_shadows(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look for collections that replays have left, or that a late write has made anew."""
    with mongo_client(settings) as client:
        left = set(shadow_names(read_model_database(client, settings)))
    (expected,) = ask(settings, EXPECTED, key=REPLAY_LOCK)
    left -= {expected["shadow"]}
    if left and not expected["replaying"]:
        yield Finding(
            f"nobody reads or writes what replays have left: {', '.join(sorted(left))}",
            "`projector replay --cancel` drops it"
            + (", and gives up the one that was interrupted" if expected["shadow"] else ""),
            Severity.WARNING,
            {"collections": sorted(left)},
        )


def agree_with_the_rows(settings: ProjectorSettings) -> Iterator[Finding]:
    """Look at what the last verifications found."""
    for found in read_overview(settings, NAME).drift:
        counts = {kind: getattr(found, kind) for kind in KINDS if getattr(found, kind)}
        if counts:
            name = f"{found.aggregate_type}s"
            yield Finding(
                f"drift: of the {name} {', '.join(f'{count:,} {kind}' for kind, count in counts.items())}",
                f"`projector verify {name} --deep --repair`, then `projector verify {name} --deep` again",
                details=counts | {"read_model": name},
            )
