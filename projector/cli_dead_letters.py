"""`projector dead-letters`: look at messages that failed for good, and have them tried again or discarded."""

import json as json_module
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from projector.cli_answers import FINDING, USAGE, Json, fail, print_answer, reporting_faults

if TYPE_CHECKING:
    import psycopg

    from projector.dead_letters import Selection

app = typer.Typer(no_args_is_help=True, help="Show dead letters, have them tried again, or discard them.")

SHOWN = 100

Ids = Annotated[list[int] | None, typer.Argument(help="Message ids.", min=1, show_default=False)]
AggregateOption = Annotated[str | None, typer.Option(help="Those of one aggregate, for example item:42.")]
GroupOption = Annotated[str | None, typer.Option(help="Those with one kind of error, as `list` names it.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every dead letter.")]


@app.command("list")
def list_(
    *,
    aggregate: AggregateOption = None,
    group: GroupOption = None,
    after: Annotated[int, typer.Option(help="Go on after this id.", min=0)] = 0,
    json: Json = False,
) -> None:
    """Show dead letters by kind of error; with --group or --aggregate one by one. Exit code 1 when there are any."""
    from projector import dead_letters

    with _connected() as connection:
        if aggregate or group:
            found = dead_letters.find(connection, _selection(None, aggregate, group), after=after, limit=SHOWN + 1)
            shown, more = found[:SHOWN], len(found) > SHOWN
            lines = [
                f"{letter.id}  {letter.event_type} {letter.aggregate_id} v{letter.aggregate_version}, "
                f"{letter.attempts} attempts: {letter.error}"
                for letter in shown
            ]
            if more:
                lines.append(f"There are more: go on with --after {shown[-1].id}")
            values = {"dead_letters": [asdict(letter) for letter in shown], "next": shown[-1].id if more else None}
        else:
            groups = dead_letters.groups(connection)
            lines = [
                f"{each.group}  {each.number:,} of {', '.join(each.aggregate_types)}, the oldest since "
                f"{timedelta(seconds=int(each.oldest_seconds))}, first {each.first_id}: {each.error}"
                for each in groups
            ]
            values = {"groups": [asdict(each) for each in groups], "next": None}
    print_answer(json, values, "\n".join(lines) or "There are no dead letters.")
    if lines:
        sys.exit(FINDING)


@app.command()
def show(message_id: Annotated[int, typer.Argument(min=1)], *, json: Json = False) -> None:
    """Show one failed message, whole, with its payload."""
    from projector import dead_letters

    with _connected() as connection:
        found = dead_letters.get(connection, message_id)
    if found is None:
        fail(f"message {message_id} is no dead letter: `projector dead-letters list` shows those there are", USAGE)
    payload = json_module.dumps(found["payload"], indent=2, ensure_ascii=False)
    lines = [f"{name}: {value}" for name, value in found.items() if name != "payload"]
    print_answer(json, found, "\n".join([*lines, f"payload: {payload}"]))


@app.command()
def retry(
    ids: Ids = None,
    *,
    aggregate: AggregateOption = None,
    group: GroupOption = None,
    every: AllOption = False,
    json: Json = False,
) -> None:
    """Have dead letters tried again, now. What fails again is a dead letter again after the usual attempts."""
    from projector import dead_letters

    _act(
        dead_letters.retry,
        "retried",
        _chosen(ids, aggregate, group, every=every),
        ids,
        may_find_none=every,
        as_json=json,
    )


@app.command()
def discard(
    ids: Ids = None,
    *,
    aggregate: AggregateOption = None,
    group: GroupOption = None,
    every: AllOption = False,
    json: Json = False,
) -> None:
    """Give dead letters up: they are never tried again. The next command on the aggregate brings its full state."""
    from projector import dead_letters

    _act(
        dead_letters.discard,
        "discarded",
        _chosen(ids, aggregate, group, every=every),
        ids,
        may_find_none=every,
        as_json=json,
    )


def _act(
    act: "Callable[[psycopg.Connection, Selection], list[int]]",
    done: str,
    selection: "Selection",
    wanted: list[int] | None,
    *,
    may_find_none: bool,
    as_json: bool,
) -> None:
    with _connected() as connection:
        changed = act(connection, selection)
    passed_over = sorted(set(wanted or ()) - set(changed))
    if not changed and not may_find_none:
        named = f"none of {', '.join(map(str, passed_over))} is a dead letter" if passed_over else "no dead letter fits"
        fail(f"{named}: nothing was changed; `projector dead-letters list` shows those there are", USAGE)
    text = f"{len(changed):,} message{'' if len(changed) == 1 else 's'} {done}."
    if passed_over:
        text += f" Passed over, for they are no dead letters: {', '.join(map(str, passed_over))}."
    print_answer(as_json, {done: changed, "passed_over": passed_over}, text)


def _chosen(ids: list[int] | None, aggregate: str | None, group: str | None, *, every: bool) -> "Selection":
    if sum(map(bool, (ids, aggregate, group, every))) != 1:
        fail("say which: message ids, or one of --aggregate, --group and --all; nothing was changed", USAGE)
    return _selection(ids, aggregate, group)


def _selection(ids: list[int] | None, aggregate: str | None, group: str | None) -> "Selection":
    from projector.dead_letters import Selection

    if ids:
        return Selection.of_ids(ids)
    if aggregate:
        aggregate_type, _, number = aggregate.partition(":")
        if not (aggregate_type and number.isascii() and number.isdigit()):
            fail(f"--aggregate {aggregate!r}: write it as type:id, for example item:42; nothing was changed", USAGE)
        return Selection.of_aggregate(aggregate_type, int(number))
    if group:
        return Selection.of_group(group)
    return Selection.of_all()


@contextmanager
def _connected() -> "Iterator[psycopg.Connection]":
    from projector.settings import ProjectorSettings
    from shared.postgres import connect

    settings = ProjectorSettings.load_or_exit()
    with reporting_faults(), connect(settings, "kata-dead-letters", autocommit=True) as connection:
        yield connection
