"""The judge finds each thing that can be wrong, and nothing in ledgers of clients that were told the truth."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from tests.chaos.storm.judge import judge
from tests.chaos.storm.judge_stores import Stores
from tests.chaos.storm.ledger import KEY, TOKEN, Entry
from tests.chaos.storm.told import Told
from tests.chaos.storm.wrong import Wrong

OWNER = {"id": 1, "name": "ada", "email": "ada@example.org", "version": 2}


class Story:
    """A ledger that is told request by request, and stores that are as it says."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.write_model: dict[str, dict[str, Any]] = {}
        self.read_models: dict[str, dict[str, Any]] | None = None
        self.unsettled = 0
        self._times = count(1)

    def add(self, method: str, path: str, status: int | None, **known: Any) -> Entry:
        time = float(next(self._times))
        known = {"client": "ann", "process": "API 1", **known}
        self.entries.append(Entry(method=method, path=path, status=status, begun=time, ended=time + 0.5, **known))
        return self.entries[-1]

    def creates(self, number: int, mark: str, *, status: int | None = 201, **known: Any) -> Entry:
        """POST an item. Status None: no answer came."""
        answer = {"id": number, "name": mark, "description": "begun", "version": 1, "owner": {"id": 1}}
        answered: dict[str, Any] = {"answer": answer, "answer_headers": {"location": f"/items/{number}", TOKEN: mark}}
        told = answered if status in {201, 202} else {}
        return self.add("POST", "/items", status, mark=mark, headers={KEY: mark}, **(told | known))

    def changes(
        self, path: str, mark: str, version: int, *, words: str = "", status: int | None = 200, **known: Any
    ) -> Entry:
        """PUT to whatever: words for an item, a name for a user."""
        body = {"description": words or f"begun {mark}"} if path.startswith("/items") else {"name": mark}
        answered = {"answer": {"version": version, **body}, "answer_headers": {TOKEN: mark}}
        told = answered if status in {200, 202} else {}
        return self.add("PUT", path, status, mark=mark, body=body, **(told | known))

    def deletes(self, path: str, mark: str, *, status: int | None = 200, **known: Any) -> Entry:
        told = {"answer": {"detail": "deleted"}, "answer_headers": {TOKEN: mark}} if status in {200, 202} else {}
        return self.add("DELETE", path, status, mark=mark, **(told | known))

    def reads(self, path: str, version: int | None, *, token: str = "", owner: int = 2, **known: Any) -> Entry:
        """GET it; no version: 404."""
        if version is None:
            return self.add("GET", path, 404, headers={TOKEN: token}, answer={"type": "problem:not-found"}, **known)
        is_item = path.startswith("/items")
        answer = {"version": version} | ({"owner": {"id": 1}} if is_item else {})
        etag = {"etag": f'"{version}-{owner}"' if is_item else f'"{version}"'}
        return self.add("GET", path, 200, headers={TOKEN: token}, answer=answer, answer_headers=etag, **known)

    def lists(self, token: str, **versions: int) -> Entry:
        """GET the newest items; they are called `item5=2`."""
        shown = [{"id": int(name.removeprefix("item")), "version": version} for name, version in versions.items()]
        return self.add("GET", "/items?sort=-id", 200, headers={TOKEN: token}, answer=shown)

    def has_item(self, number: int, mark: str, version: int = 1, description: str = "begun") -> None:
        document = {"version": version, "name": mark, "description": description, "owner": OWNER}
        self.write_model[f"/items/{number}"] = document

    def has_user(self, number: int, mark: str, version: int = 1, name: str = "") -> None:
        email = f"{mark}@example.org"
        self.write_model[f"/users/{number}"] = {"version": version, "name": name or mark, "email": email}

    def verdict(self) -> set[Wrong]:
        shown: Mapping[str, Mapping[str, Any]] = self.write_model if self.read_models is None else self.read_models
        findings = judge(Told(reversed(self.entries)), Stores(self.write_model, shown, self.unsettled))
        assert all(str(finding) for finding in findings)
        return {finding.wrong for finding in findings}


@pytest.fixture
def story() -> Story:
    """One that is in order: an item that was created, changed, read, and one that was deleted."""
    story = Story()
    story.creates(5, "a")
    story.changes("/items/5", "b", 2, status=202)
    story.reads("/items/5", 2, token="b")
    story.creates(6, "c", status=202)
    story.deletes("/items/6", "d", status=202)
    story.reads("/items/6", None, token="d")
    story.lists("c", item5=2)
    story.has_item(5, "a", 2, "begun b")
    return story


def test_in_an_orderly_story_nothing_is_wrong(story: Story) -> None:
    assert story.verdict() == set()


@pytest.mark.parametrize("is_there", [True, False])
def test_what_its_client_does_not_know_may_be_done_or_not(story: Story, is_there: bool) -> None:  # noqa: FBT001 - pytest's
    story.creates(7, "unanswered", status=None)
    story.changes("/items/5", "unknown", 3, status=503, answer={"type": "urn:kata:problem:outcome-unknown"})
    if is_there:
        story.has_item(7, "unanswered")
        story.has_item(5, "a", 3, "begun b unknown")
    assert story.verdict() == set()


def test_an_acknowledged_creation_that_is_nowhere_is_lost(story: Story) -> None:
    story.creates(7, "e", status=202)
    assert story.verdict() == {Wrong.LOST}


def test_an_acknowledged_creation_that_one_store_does_not_have_is_lost(story: Story) -> None:
    story.creates(7, "e")
    story.read_models = dict(story.write_model)
    story.has_item(7, "e")
    assert story.verdict() == {Wrong.LOST, Wrong.DRIFT}


def test_an_acknowledged_change_that_is_gone_is_lost(story: Story) -> None:
    story.has_item(5, "a", 1)
    assert story.verdict() == {Wrong.LOST}


def test_an_acknowledged_change_under_which_another_content_is_found_is_lost(story: Story) -> None:
    story.has_item(5, "a", 2, "begun b and something else")
    assert story.verdict() == {Wrong.LOST}


def test_a_word_that_a_later_change_went_over_is_lost(story: Story) -> None:
    story.changes("/items/5", "e", 3)
    story.has_item(5, "a", 3, "begun e")
    assert story.verdict() == {Wrong.LOST}


def test_a_deletion_that_did_not_last_is_lost(story: Story) -> None:
    story.has_item(6, "c", 1)
    assert story.verdict() == {Wrong.LOST}


def test_a_user_with_fewer_versions_than_acknowledged_commands_has_lost_one(story: Story) -> None:
    story.has_user(1, "ada", 2, "f")
    story.changes("/users/1", "e", 2)
    story.changes("/users/1", "f", 2)
    assert Wrong.LOST in story.verdict()


def test_one_key_that_was_answered_with_two_items_is_a_duplicate(story: Story) -> None:
    story.creates(7, "a")
    story.has_item(7, "a")
    assert story.verdict() == {Wrong.DUPLICATE}


def test_one_key_that_made_two_items_is_a_duplicate_even_if_one_answer_was_lost(story: Story) -> None:
    story.creates(7, "a", status=None)
    story.has_item(7, "a")
    assert story.verdict() == {Wrong.DUPLICATE}


def test_a_word_that_is_there_twice_is_a_duplicate(story: Story) -> None:
    story.changes("/items/5", "e", 3)
    story.has_item(5, "a", 3, "begun b e b")
    assert Wrong.DUPLICATE in story.verdict()


def test_one_version_for_two_commands_is_a_duplicate(story: Story) -> None:
    story.changes("/items/5", "e", 2)
    story.has_item(5, "a", 3, "begun b e")
    assert story.verdict() == {Wrong.DUPLICATE}


def test_more_versions_than_commands_are_a_duplicate(story: Story) -> None:
    story.changes("/items/5", "unknown", 3, status=None)
    story.has_item(5, "a", 4, "begun b unknown")
    assert story.verdict() == {Wrong.DUPLICATE}


def test_what_was_done_although_nothing_was_changed_it_was_said_is_untrue(story: Story) -> None:
    away = {"status": 503, "answer": {"type": "urn:kata:problem:store-away"}}
    story.creates(7, "e", **away)
    story.has_item(7, "e")
    assert story.verdict() == {Wrong.UNTRUE}


def test_a_word_of_a_change_that_was_refused_is_untrue(story: Story) -> None:
    story.changes("/items/5", "e", 3, status=412)
    story.has_item(5, "a", 2, "begun b")
    assert story.verdict() == set()
    story.has_item(5, "a", 3, "begun b e")
    assert story.verdict() == {Wrong.UNTRUE, Wrong.DUPLICATE}


def test_a_read_below_its_token_is_stale(story: Story) -> None:
    story.reads("/items/5", 1, token="b", client="bob")
    assert story.verdict() == {Wrong.STALE}


def test_a_read_that_finds_nothing_is_stale_unless_somebody_may_have_deleted_it(story: Story) -> None:
    story.reads("/items/5", None, token="a", client="bob")
    assert story.verdict() == {Wrong.STALE}
    story.entries.insert(0, replace(story.entries[0], method="DELETE", path="/items/5", status=None, answer=None))
    story.entries[0] = replace(story.entries[0], mark="unanswered", answer_headers={}, headers={})
    assert story.verdict() == set()


def test_a_read_that_shows_what_its_token_says_is_deleted_is_stale(story: Story) -> None:
    story.reads("/items/6", 1, token="d", client="bob")
    assert story.verdict() == {Wrong.STALE}


def test_a_list_that_passes_over_what_its_token_names_is_stale(story: Story) -> None:
    story.creates(7, "e", client="eve")
    story.has_item(7, "e")
    story.lists("e", item5=2)
    assert story.verdict() == {Wrong.STALE}


def test_an_owner_in_an_item_below_the_token_of_the_rename_is_stale(story: Story) -> None:
    story.changes("/users/1", "ada", 2)
    story.has_user(1, "ada", 2)
    story.reads("/items/5", 2, token="ada", owner=2)
    assert story.verdict() == set()
    story.reads("/items/5", 2, token="ada", owner=1)
    assert story.verdict() == {Wrong.STALE}


def test_the_token_of_a_rename_does_not_cover_an_item_that_could_not_be_read_before(story: Story) -> None:
    story.changes("/users/1", "ada", 2)
    story.has_user(1, "ada", 2)
    story.creates(7, "e", client="eve", status=202)
    story.has_item(7, "e")
    story.reads("/items/7", 1, token="ada", owner=1)
    assert story.verdict() == set()


def test_a_token_read_below_what_another_one_proved_goes_back(story: Story) -> None:
    story.reads("/items/5", 1, token="a")
    assert story.verdict() == {Wrong.WENT_BACK}


def test_a_token_read_below_a_write_that_could_be_read_goes_back(story: Story) -> None:
    story.changes("/items/5", "e", 3, words="begun b e", client="eve")
    story.reads("/items/5", 2, token="b", client="eve")
    story.has_item(5, "a", 3, "begun b e")
    assert story.verdict() == {Wrong.WENT_BACK}


def test_a_token_read_below_a_write_that_could_not_be_read_yet_does_not(story: Story) -> None:
    story.changes("/items/5", "e", 3, words="begun b e", client="eve", status=202)
    story.reads("/items/5", 2, token="b", client="eve")
    story.has_item(5, "a", 3, "begun b e")
    assert story.verdict() == set()


@pytest.mark.parametrize("field", ["version", "description", "owner"])
def test_a_read_model_that_differs_in_anything_has_drifted(story: Story, field: str) -> None:
    story.read_models = {"/items/5": {**story.write_model["/items/5"], field: 9}}
    assert Wrong.DRIFT in story.verdict()


def test_a_document_without_a_row_has_drifted(story: Story) -> None:
    story.read_models = {**story.write_model, "/items/9": story.write_model["/items/5"]}
    assert story.verdict() == {Wrong.DRIFT}


def test_messages_that_are_left_are_drift(story: Story) -> None:
    story.unsettled = 1
    assert story.verdict() == {Wrong.DRIFT}


@pytest.mark.parametrize(("method", "status"), [("GET", 500), ("GET", 400), ("POST", 422), ("PUT", 500)])
def test_an_answer_that_no_fault_excuses_is_wrong(story: Story, method: str, status: int) -> None:
    story.add(method, "/items/5", status, mark="e")
    assert story.verdict() == {Wrong.ANSWER}


def test_a_projection_that_is_said_to_have_failed_is_wrong(story: Story) -> None:
    story.creates(7, "e", status=503, answer={"type": "urn:kata:problem:projection-failed"})
    assert story.verdict() == {Wrong.ANSWER}
