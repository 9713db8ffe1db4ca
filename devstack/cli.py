"""`kata`: everything on embedded servers, without Docker.

Exit codes: 0 good, 1 a finding (not everything runs), 2 usage or configuration, 3 a server could not be
reached, 130 interrupted. Errors are one sentence on stderr. Imports that take time wait until a command needs
them.
"""

import contextlib
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from devstack.errors import DevstackError
from devstack.layout import DEFAULT_DATA_DIR, Layout

GOOD, FINDING, USAGE, INTERRUPTED = 0, 1, 2, 130
HIGHEST_PORT = 65535

app = typer.Typer(
    name="kata",
    help="Run the whole backend on embedded servers: a real PostgreSQL and a real mongod, without Docker.",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
)

DataDir = Annotated[
    Path,
    typer.Option(
        help="Where the data are kept.", show_default=".kata in the checkout", file_okay=False, readable=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object as the last line of stdout.")]


def show_version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it
    """Print the version and end."""
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 - see the module's docstring

        typer.echo(f"kata {version('backend-kata')}")
        raise typer.Exit


@app.callback()
def kata(
    *,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """Hold the options that belong to no command."""


@app.command()
def up(
    *,
    data_dir: DataDir = DEFAULT_DATA_DIR,
    api_port: Annotated[int, typer.Option(min=0, max=HIGHEST_PORT, help="0 takes any free one.")] = 8000,
    projector_port: Annotated[
        int,
        typer.Option(min=0, max=HIGHEST_PORT, help="The first projector's; the others take the next. 0: any."),
    ] = 8001,
    projectors: Annotated[int, typer.Option(min=1, max=64, help="How many.")] = 1,
    detach: Annotated[bool, typer.Option("--detach", help="Return when everything is ready.")] = False,
    as_json: AsJson = False,
) -> int:
    """Start everything. Stays in the foreground until Ctrl-C unless detached. --json shows the passwords."""
    from devstack.reporter import Reporter, reporter_for  # noqa: PLC0415 - see the module's docstring
    from devstack.supervisor import Wishes, supervise  # noqa: PLC0415

    layout = Layout(data_dir.absolute())
    wishes = Wishes(api_port, projector_port, projectors)
    closing = "Running in the background: `kata down` stops it." if detach else "Ready. Ctrl-C stops everything."
    reporter = reporter_for(layout.root, as_json=as_json, closing=closing)

    def run(whom_to_tell: Reporter) -> int:
        return supervise(layout, wishes, whom_to_tell)

    with contextlib.closing(reporter):
        if detach:
            from devstack.detach import start_detached  # noqa: PLC0415

            return start_detached(layout, run, reporter)
        return run(reporter)


@app.command()
def down(data_dir: DataDir = DEFAULT_DATA_DIR) -> int:
    """Stop the instance on these data and return when all of it is gone. Harmless when nothing runs."""
    from devstack.down import bring_down  # noqa: PLC0415 - see the module's docstring
    from devstack.reporter import reporter_for  # noqa: PLC0415

    layout = Layout(data_dir.absolute())
    with contextlib.closing(reporter_for(layout.root, as_json=False)) as reporter:
        bring_down(layout, reporter)
    return GOOD


@app.command()
def status(*, data_dir: DataDir = DEFAULT_DATA_DIR, as_json: AsJson = False) -> int:
    """Show what runs on these data. Exit code 1 when that is not everything."""
    from devstack.status import find_out  # noqa: PLC0415 - see the module's docstring

    found = find_out(Layout(data_dir.absolute()))
    if as_json:
        typer.echo(json.dumps(found.as_json()))
    elif not found.processes:
        typer.echo(f"Nothing is running on {data_dir.absolute()}.")
    else:
        for process in found.processes:
            where = f"127.0.0.1:{process.port}"
            typer.echo(f"{process.role:<10} {process.state:<10} {where:<16} process {process.pid or '-'}")
    return GOOD if found.is_good else FINDING


@app.command(name="exec", context_settings={"allow_interspersed_args": False})
def execute(
    command: Annotated[list[str], typer.Argument(help="The command and its arguments.")],
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Run a command against what runs here: kata exec projector status."""
    from devstack.execute import execute as become  # noqa: PLC0415 - see the module's docstring

    become(Layout(data_dir.absolute()), command)


def main() -> None:
    """The entry point: every ending becomes an exit code, every error one sentence."""
    try:
        code = app(prog_name="kata", standalone_mode=False)
    except DevstackError as error:
        code = _fail(str(error), error.exit_code)
    except typer.Abort:
        code = INTERRUPTED
    except OSError as error:  # a full disk, a directory that may not be read
        code = _fail(f"{error}.", USAGE)
    except KeyboardInterrupt:
        code = _fail("Interrupted.", INTERRUPTED)
    except Exception as error:
        usage = getattr(error, "format_message", None)  # Typer's usage errors, whose classes are not public
        if usage is None:
            raise
        code = _fail(f"{usage()} (`kata --help` explains.)", USAGE)
    sys.exit(code or GOOD)


def _fail(sentence: str, code: int) -> int:
    typer.echo(f"kata: {sentence}", err=True)
    return code


if __name__ == "__main__":
    main()
