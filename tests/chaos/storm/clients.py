"""The clients. They do as README tells clients to, each on a thread of its own; the ledger has what they were told.

A POST goes with an Idempotency-Key and is sent until it is answered. A PUT that must not be lost goes with If-Match,
and whoever was not told what became of it reads again. Any request may go to any API process.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from random import Random
from typing import Any, Final

import httpx
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_random

from tests.chaos.storm.board import Board
from tests.chaos.storm.ledger import KEPT, KEY, TOKEN, Entry, Ledger

PAUSE_SECONDS: Final = 0.05
TIMEOUT: Final = httpx.Timeout(10, connect=3)
ATTEMPTS: Final = 100
LONGEST_JOURNAL: Final = 60
BEGUN: Final = "begun"
# The end of a list of items, newest first.
NEWEST: Final = "/items?sort=-id&limit=20"
ASYNCHRONOUSLY: Final = {"prefer": "respond-async"}

Api = tuple[str, str]
Headers = Mapping[str, str]


class Client:
    """Sends requests. Subclasses say in `step` which ones."""

    def __init__(self, name: str, apis: Sequence[Api], ledger: Ledger, board: Board, seed: int) -> None:
        """`apis` are the API processes: name and URL."""
        self.name = name
        self.random = Random(f"{seed} {name}")  # noqa: S311 - to be repeated
        self.board = board
        self._apis = apis
        self._ledger = ledger
        self._numbers = count(1)
        self._http = httpx.Client(timeout=TIMEOUT, trust_env=False)

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop; what is begun is brought to its end."""
        with self._http:
            while not stop.is_set():
                self.step()
                stop.wait(self.random.uniform(0, 2 * PAUSE_SECONDS))

    def step(self) -> None:
        """Do what this client does, once."""
        raise NotImplementedError

    def new_mark(self) -> str:
        """Return a word that no other command has."""
        return f"{self.name}-{next(self._numbers)}"

    def ask(
        self,
        method: str,
        path: str,
        *,
        mark: str = "",
        headers: Headers | None = None,
        body: Mapping[str, Any] | None = None,
        api: Api | None = None,
    ) -> Entry:
        """Send a request once and return what is now in the ledger."""
        process, url = api or self.random.choice(self._apis)
        known: dict[str, Any] = {"headers": headers or {}, "body": body, "mark": mark}
        begun = time.monotonic()
        try:
            answer = self._http.request(method, f"{url}{path}", headers=headers, json=body)
            known |= {
                "status": answer.status_code,
                "answer": answer.json() if answer.content else None,
                "answer_headers": {name: answer.headers[name] for name in KEPT if name in answer.headers},
            }
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            known |= {"error": repr(error), "reached": False}
        except httpx.TransportError as error:
            known |= {"error": repr(error)}
        entry = Entry(self.name, process, method, path, begun, time.monotonic(), **known)
        self._ledger.write(entry)
        if entry.is_write:
            self.board.publish(entry)
        return entry

    def insist(self, method: str, path: str, **request: Any) -> Entry:
        """Send a request until something is known of it."""
        return _insisting(self.ask, method, path, **request)

    def create(self, path: str, mark: str, body: Mapping[str, Any], **request: Any) -> Entry:
        """POST under a key of its own, until it is answered."""
        return self.insist("POST", path, mark=mark, body=body, headers={KEY: mark}, **request)

    def create_user(self, **request: Any) -> Entry:
        """Create a user who is known by the mark of the command."""
        mark = self.new_mark()
        return self.create("/users", mark, {"name": mark, "email": f"{mark}@example.org"}, **request)

    def create_item(self, owner: str, **fields: Any) -> Entry:
        """Create an item of this user that bears the mark of the command as its name for good."""
        mark = self.new_mark()
        owner_id = int(owner.rpartition("/")[2])
        body = {"name": mark, "sell_in": 1, "quality": 0, "owner_id": owner_id, "tags": ["storm"], **fields}
        return self.create("/items", mark, body)

    def begin_journal(self, owner: str) -> None:
        """Give this user an item on which everybody writes, in place of the one before."""
        created = self.create_item(owner, description=BEGUN)
        if created.is_acknowledged:
            self.board.keep_journal(owner, created.written[0])


class Creator(Client):
    """Creates users and items, sends some requests once more, and deletes some of what it made."""

    def step(self) -> None:
        """Create one."""
        created = self.create_item(self.board.owner(self.random)) if self.random.random() < 0.7 else self.create_user()
        if not created.is_acknowledged:
            return
        if self.random.random() < 0.2:
            self.create(created.path, created.mark, created.body or {})
        if self.random.random() < 0.3:
            self.insist("DELETE", created.written[0], mark=self.new_mark())


class Appender(Client):
    """Appends a word to a text that others append to as well. If-Match keeps everybody's words."""

    def step(self) -> None:
        """Append one word."""
        owner = self.board.owner(self.random)
        path = self.board.journal_of(owner) or ""
        shown = self.ask("GET", path, headers={TOKEN: self.board.token_of(path)})
        if shown.status != 200:
            return
        if len(shown.answer["description"].split()) >= LONGEST_JOURNAL:
            self.begin_journal(owner)
            return
        mark = self.new_mark()
        headers = {"if-match": shown.answer_headers["etag"], **self.random.choice(({}, ASYNCHRONOUSLY))}
        self.ask("PUT", path, mark=mark, body={"description": f"{shown.answer['description']} {mark}"}, headers=headers)


class Renamer(Client):
    """Renames users, whose items follow."""

    def step(self) -> None:
        """Rename one."""
        mark = self.new_mark()
        self.insist("PUT", self.board.owner(self.random), mark=mark, body={"name": mark})


class WaitingReader(Client):
    """Does not wait for its writes, but reads each at once, and waits in the read."""

    def step(self) -> None:
        """Write and read."""
        path = self.board.journal_of(self.board.owner(self.random)) or ""
        body = {"quality": self.random.randrange(1_000)}
        written = self.ask("PUT", path, mark=self.new_mark(), body=body, headers=ASYNCHRONOUSLY)
        if written.is_acknowledged:
            self.ask("GET", path, headers={TOKEN: written.answered_token, "prefer": "wait=9"})


class TokenReader(Client):
    """Reads what others wrote, with their tokens: the aggregate itself, what embeds it, or the list it is in."""

    def step(self) -> None:
        """Read once."""
        if not (recent := self.board.recent(self.random)):
            return
        path, token = recent
        if journal := self.board.journal_of(path):
            path = self.random.choice((path, journal))
        elif path.startswith("/items/"):
            path = self.random.choice((path, path, NEWEST))
        self.ask("GET", path, headers={TOKEN: token})


def _insisting(ask: Callable[..., Entry], *arguments: Any, **keywords: Any) -> Entry:
    def last(state: RetryCallState) -> Entry:
        assert state.outcome
        return state.outcome.result()

    attempts = Retrying(
        retry=retry_if_result(lambda entry: entry.may_be_repeated),
        wait=wait_random(0.1, 1),
        stop=stop_after_attempt(ATTEMPTS),
        retry_error_callback=last,
    )
    return attempts(ask, *arguments, **keywords)
