"""The command `projector dead-letters`: list, show, retry and discard, by id, aggregate, kind of error, or all."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from projector.cli import app
from projector.settings import ProjectorSettings
from tests.fixtures.consoles import DeadLetters
from tests.fixtures.relays import Outbox
from tests.integration.projector.conftest import environment_of


@pytest.fixture
def letters(buried: DeadLetters) -> DeadLetters:
    """Two of users that failed in one way, and one of an item that failed in another."""
    buried.bury(11, "refused: user 11", name="Ada")
    buried.bury(12, "refused: user 12", name="Bob")
    buried.bury(13, "unknown event type", aggregate_type="item")
    return buried


def run(settings: ProjectorSettings, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["dead-letters", *arguments], env=environment_of(settings))
    assert done.exit_code == code, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert (done.stderr.count("\n") == 1) == (code > 1), "an error is one sentence"
    return done.stdout or done.stderr


def run_json(settings: ProjectorSettings, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(settings, *arguments, "--json", code=code).splitlines()[-1])


def test_the_list_shows_kinds_of_errors_and_what_is_of_a_kind_or_of_an_aggregate(
    settings: ProjectorSettings, letters: DeadLetters
) -> None:
    shown = run(settings, "list", code=1).splitlines()
    assert [line.partition("  ")[2].split(", ")[0] for line in shown] == ["2 of user", "1 of item"]
    assert shown[0].endswith("first 11: refused: user 12")
    group = shown[0].split()[0]

    of_group = run(settings, "list", "--group", group, code=1).splitlines()
    assert of_group == [
        "11  user.created 11 v1, 3 attempts: refused: user 11",
        "12  user.created 12 v1, 3 attempts: refused: user 12",
    ]
    after = run_json(settings, "list", "--group", group, "--after", "11", code=1)
    assert [letter["id"] for letter in after["dead_letters"]] == [12]
    assert run(settings, "list", "--aggregate", "item:13", code=1).startswith("13  item.created 13 v1")
    assert run(settings, "list", "--aggregate", "item:14") == "There are no dead letters.\n"


def test_one_is_shown_whole(settings: ProjectorSettings, letters: DeadLetters) -> None:
    shown = run(settings, "show", "11")
    assert "error: refused: user 11\n" in shown
    assert '"name": "Ada"' in shown
    assert run_json(settings, "show", "11")["payload"] == {"name": "Ada"}
    assert run(settings, "show", "99", code=2).startswith("message 99 is no dead letter")


def test_retry_and_discard_act_on_what_is_named_and_say_what_they_did(
    settings: ProjectorSettings, letters: DeadLetters, outbox: Outbox
) -> None:
    said = run(settings, "retry", "11", "99")
    assert said == "1 message retried. Passed over, for they are no dead letters: 99.\n"
    assert (outbox.ids(), letters.states()) == ([11], {12: "dead", 13: "dead"})

    assert run(settings, "discard", "--aggregate", "item:13") == "1 message discarded.\n"
    assert letters.states() == {12: "dead", 13: "discarded"}

    group = run_json(settings, "list", code=1)["groups"][0]["group"]
    assert run_json(settings, "retry", "--group", group) == {"retried": [12], "passed_over": []}
    assert (outbox.ids(), letters.states()) == ([11, 12], {13: "discarded"})


def test_all_may_be_none(settings: ProjectorSettings, letters: DeadLetters, outbox: Outbox) -> None:
    assert run(settings, "retry", "--all") == "3 messages retried.\n"
    assert outbox.ids() == [11, 12, 13]
    assert run(settings, "retry", "--all") == "0 messages retried.\n"
    assert run_json(settings, "discard", "--all") == {"discarded": [], "passed_over": []}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("retry",), "say which: message ids, or one of --aggregate, --group and --all; nothing was changed"),
        (("discard", "11", "--all"), "say which: "),
        (("retry", "99"), "none of 99 is a dead letter: nothing was changed; `projector dead-letters list` shows"),
        (("retry", "9" * 30), "none of 999999999999999999999999999999 is a dead letter"),
        (("discard", "--group", "000000000000"), "no dead letter fits: nothing was changed"),
        (("retry", "--aggregate", "item"), "--aggregate 'item': write it as type:id, for example item:42"),
    ],
)
def test_what_names_no_dead_letter_changes_nothing(
    settings: ProjectorSettings, letters: DeadLetters, arguments: tuple[str, ...], sentence: str
) -> None:
    assert run(settings, *arguments, code=2).startswith(sentence)
    assert letters.states() == {11: "dead", 12: "dead", 13: "dead"}
