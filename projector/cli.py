"""The command `projector`. Thin: each command reads the settings, calls its module, and prints.

Exit codes: 0 good, 1 a finding, 2 usage or configuration, 3 a server could not be reached, 130 interrupted.
Modules are imported inside the commands, so that --help answers at once.
"""

import os
import sys
from enum import Enum
from typing import Annotated

import typer

from projector import cli_dead_letters
from projector.cli_answers import FINDING, INTERRUPTED, USAGE, Json, fail, print_answer, reporting_faults
from shared.read_models import READ_MODELS

app = typer.Typer(
    name="projector",
    help="Keeps the read models up to date, and shows, checks and rebuilds them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


app.add_typer(cli_dead_letters.app, name="dead-letters")


class ScopeName(Enum):
    """What a token may be good for, as the command line names it."""

    READ = "read"
    WRITE = "write"
    OPERATE = "operate"


# An id is a bigint.
TOO_LARGE = 2**63

# As the command line names the read models: by the tables whose rows they show.
READ_MODELS_BY_TABLE = {read_model.table: read_model.aggregate_type for read_model in READ_MODELS}


def _known(name: str | None) -> str | None:
    if name is not None and name not in READ_MODELS_BY_TABLE:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(READ_MODELS_BY_TABLE)}")
    return name


ReadModelArgument = Annotated[
    str | None,
    typer.Argument(
        help="Only this one.", show_default="all", metavar=f"[{'|'.join(READ_MODELS_BY_TABLE)}]", callback=_known
    ),
]


def main() -> None:
    """Run the command line."""
    app()


@app.callback(invoke_without_command=True)
def version(
    *, show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False
) -> None:
    """Keep the read models up to date, and show, check and rebuild them."""
    if show:
        from importlib.metadata import version as installed

        typer.echo(f"projector {installed('backend-kata')}")
        raise typer.Exit


@app.command()
def run() -> None:
    """Relay messages from the outbox to the read models until SIGTERM, then drain."""
    from projector.process import Projector
    from projector.settings import ProjectorSettings
    from projector.shutdown import StopSignals
    from shared.garbage import collect_seldom
    from shared.logs import configure_logs
    from shared.telemetry import Tracing

    settings = ProjectorSettings.load_or_exit()
    configure_logs(settings.log_level, settings.log_format, "projector")
    tracing = Tracing.of(settings, "projector")
    signals = StopSignals()
    signals.install()
    try:
        projector = Projector(settings, signals.stop, tracing)
        collect_seldom()
        ended_well = projector.run()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        fail(f"{settings.http_address}:{settings.projector_http_port}: {reason}", USAGE)
    finally:
        if tracing:
            tracing.close()
    if signals.interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(0 if ended_well else FINDING)


@app.command()
def replay(
    read_model: ReadModelArgument = None,
    *,
    ids: Annotated[
        str | None, typer.Option(help="Only these documents of it: ids, separated by commas.", metavar="1,2,...")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="At most so many documents a second.", min=0.1)] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the replay at work, wherever it runs.")] = False,
    take_back: Annotated[
        bool, typer.Option("--take-back", help="Back to this version's shape, when a deploy is undone.")
    ] = False,
    json: Json = False,
) -> None:
    """Rebuild read models from the write model, beside running projectors and clients.

    Interrupted, it goes on where it was when it is run again.
    """
    from projector import replay_run

    if cancel and (read_model or ids or rate or take_back):
        fail("--cancel ends whatever replay is at work: it goes with nothing else", USAGE)
    if ids and (read_model is None or rate or take_back):
        fail("--ids needs the read model, as in `projector replay items --ids 1,2`, and goes with nothing else", USAGE)
    with reporting_faults():
        if cancel:
            cancelled = replay_run.cancel()
            text = f"Cancelled the replay of {cancelled}." if cancelled else "No replay is at work."
            print_answer(json, {"cancelled": cancelled}, text)
        elif ids and read_model:
            wanted = _ids(ids)
            (aggregate_type,) = _aggregate_types(read_model)
            sent = replay_run.replay_ids(aggregate_type, wanted)
            text = f"Sent {sent:,} messages for {len(wanted):,} {read_model}: the relay rewrites them."
            print_answer(json, {read_model: len(wanted), "messages": sent}, text)
        else:
            totals = replay_run.replay(_aggregate_types(read_model), rate, take_back=take_back)
            counts = ", ".join(f"{count:,} {name}" for name, count in totals.items())
            print_answer(json, totals, f"Replayed {counts}.")


@app.command()
def verify(
    read_model: ReadModelArgument = None,
    *,
    deep: Annotated[bool, typer.Option("--deep", help="Compare the contents, too.")] = False,
    repair: Annotated[bool, typer.Option("--repair", help="Append a repair for what differs.")] = False,
    sample: Annotated[int | None, typer.Option(min=1, help="Compare about so many of each, chosen at random.")] = None,
    json: Json = False,
) -> None:
    """Compare ids and versions on both sides. Exit code 1 when they differ for good and no repair was appended."""
    from projector.verification_run import verify

    with reporting_faults():
        found = verify(_aggregate_types(read_model), deep=deep, repair=repair, size=sample)
    for drift in found.examples:
        typer.echo(str(drift), err=True)
    if more := found.drift - len(found.examples):
        typer.echo(f"and {more:,} more", err=True)
    print_answer(json, found.as_json(), found.describe())
    if not found.is_good:
        sys.exit(FINDING)


@app.command()
def status(
    *,
    json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every second, until interrupted.")] = False,
) -> None:
    """Show the whole installation at a glance. Exit code 1 when there are dead letters."""
    from rich.console import Console

    from projector import maintenance, status_view
    from projector.settings import ProjectorSettings

    with reporting_faults():
        if watch:
            status_view.watch(ProjectorSettings.load_or_exit(), Console(), as_json=json)
        now = maintenance.status()
    print_answer(json, now.as_json(), "\n".join(status_view.lines_of(now)))
    if now.outbox.dead_letters:
        sys.exit(FINDING)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Whom it names in the log.")],
    scope: Annotated[
        list[ScopeName] | None, typer.Option(help="What it is good for; may be given several times.")
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Make a bearer token: the secret, shown this once, and the entry for TOKENS, which does not contain it."""
    from shared.bearer import new_token

    scopes = scope or [ScopeName.READ, ScopeName.OPERATE]
    try:
        secret, made = new_token(name, [each.value for each in scopes])
    except ValueError as error:
        fail(str(error), USAGE)
    print_answer(json, {"token": secret, "entry": made.entry()}, f"token {secret}\nTOKENS entry {made.entry()}")


@app.command()
def doctor(*, json: Json = False) -> None:
    """Name what is wrong, why, and the command that mends it. Exit code 1 when anything is."""
    from rich.console import Console

    from projector.doctor.checks import CHECKS
    from projector.doctor.examine import examine
    from projector.doctor.report import show
    from projector.settings import ProjectorSettings

    with reporting_faults():
        report = examine(CHECKS, ProjectorSettings.load_or_exit())
    if json:
        print_answer(json, report.as_json(), "")
    else:
        show(report, Console())
    if not report.is_healthy:
        sys.exit(FINDING)


def _aggregate_types(read_model: str | None) -> tuple[str, ...]:
    return (READ_MODELS_BY_TABLE[read_model],) if read_model else tuple(READ_MODELS_BY_TABLE.values())


def _ids(text: str) -> list[int]:
    wanted = [number.strip() for number in text.split(",")]
    if not all(number.isascii() and number.isdecimal() and 0 < int(number) < TOO_LARGE for number in wanted):
        fail(f"--ids: expected ids such as 1,2, not {text!r}", USAGE)
    return sorted(set(map(int, wanted)))


if __name__ == "__main__":
    main()
