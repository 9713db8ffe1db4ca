"""The command `projector`: what it prints, and its exit codes."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

from projector.relay import Relay
from projector.settings import ProjectorSettings
from shared.bearer import Token, Tokens
from tests.fixtures.consoles import DeadLetters
from tests.fixtures.databases import ROOT
from tests.fixtures.relays import Outbox, drain
from tests.fixtures.runbook import procedure, run_procedure
from tests.integration.projector.conftest import environment_of, run_cli


def test_the_version_is_said(settings: ProjectorSettings) -> None:
    done = run_cli(settings, "--version")
    assert (done.returncode, done.stdout) == (0, f"projector {version('backend-kata')}\n")


def test_status_shows_backlog_and_lag_as_one_json_object(settings: ProjectorSettings, outbox: Outbox) -> None:
    outbox.bulk(3)
    done = run_cli(settings, "status", "--json")
    assert done.returncode == 0
    shown = json.loads(done.stdout.splitlines()[-1])
    assert (shown["backlog"], shown["failures"], shown["dead_letters"]) == (3, 0, 0)
    assert 0 < shown["lag_seconds"] < 60


def test_status_exits_with_1_when_there_are_dead_letters(
    settings: ProjectorSettings, outbox: Outbox, relay: Relay
) -> None:
    outbox.append("item", 1, 1, "exploded", {})
    drain(relay)
    done = run_cli(settings, "status")
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "backlog 0, lag 0.0 s, retrying 0, dead letters 1"


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (("verify", "orders"), {}, "orders"),
        (("status",), {"DATABASE_URL": "mysql://nowhere"}, "DATABASE_URL: expected postgresql://"),
        (("run",), {"BATCH_SIZE": "0"}, "BATCH_SIZE"),
    ],
)
def test_wrong_usage_and_wrong_settings_are_exit_code_2(
    settings: ProjectorSettings, arguments: tuple[str, ...], environment: dict[str, str], words: str
) -> None:
    done = run_cli(settings, *arguments, **environment)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_token_is_made_with_the_entry_that_accepts_it(settings: ProjectorSettings) -> None:
    made = json.loads(run_cli(settings, "token", "ada", "--json").stdout)
    assert Tokens.parse(made["entry"]).bearer(f"Bearer {made['token']}") == Token.parse(made["entry"])
    assert Token.parse(made["entry"]).scopes == {"read", "operate"}
    assert run_cli(settings, "token", "a:b").returncode == 2
    assert run_cli(settings, "token", "ada", "--scope", "admin").returncode == 2


def test_the_runbook_makes_tokens_for_those_who_act_and_for_those_who_look() -> None:
    done = run_procedure(procedure("Letting somebody in"), {})
    assert done.returncode == 0, done.stderr
    entries = [line.removeprefix("TOKENS entry ") for line in done.stdout.splitlines() if line.startswith("TOKENS")]
    tokens = {token.name: token.scopes for token in map(Token.parse, entries)}
    assert tokens == {"shop": {"write"}, "wall": {"read"}, "ada": {"read", "operate"}}


def test_the_runbook_has_dead_letters_tried_again(
    settings: ProjectorSettings, buried: DeadLetters, outbox: Outbox
) -> None:
    buried.bury(4, error="refused by the validator", name="Ada")
    buried.bury(5, error="refused by the validator", name="Bob")
    done = run_procedure(procedure("Dead letters"), environment_of(settings), replaced={"4711": "5"})
    assert done.returncode == 0, done.stderr
    assert "refused by the validator" in done.stdout
    assert "Bob" in done.stdout
    assert (outbox.ids(), buried.states()) == ([4, 5], {})


def test_when_both_servers_break_in_a_transaction_one_sentence_is_said(settings: ProjectorSettings) -> None:
    program = f"""
import psycopg, sys
from projector.cli_answers import reporting_faults
from pymongo.errors import ServerSelectionTimeoutError
dsn = {settings.database_url.get_secret_value()!r}
with reporting_faults(), psycopg.connect(dsn) as broken, psycopg.connect(dsn) as other, broken.transaction():
    other.execute("SELECT pg_terminate_backend(%s)", [broken.info.backend_pid])
    raise ServerSelectionTimeoutError("no primary")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "MongoDB could not be reached: ServerSelectionTimeoutError: no primary\n"
