"""Dead letters for the web page: by error, one by one, and what an operator does about them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

import psycopg
from fastapi import APIRouter, Depends, HTTPException, Path, Query
from pydantic import BaseModel, Field

from projector import dead_letters
from projector.console.access import ConsoleAccess
from projector.dead_letters import Selection
from projector.settings import ProjectorSettings
from projector.subscriber import RelaySubscriber
from shared.bearer import Token
from shared.postgres import connect

PAGE_SIZE: Final = 20
# An action may concern every dead letter there is.
TIMEOUT_MILLISECONDS: Final = 20_000
LARGEST_ID: Final = 2**63 - 1

MessageId = Annotated[int, Field(ge=1, le=LARGEST_ID)]
GroupKey = Annotated[str, Field(pattern="^[0-9a-f]{12}$")]


class SelectedIds(BaseModel):
    """These messages."""

    ids: list[MessageId] = Field(min_length=1, max_length=1000)

    def selection(self) -> Selection:
        """Return it as the outbox reads it."""
        return Selection.of_ids(self.ids)


class SelectedGroup(BaseModel):
    """What failed in the same way."""

    group: GroupKey

    def selection(self) -> Selection:
        """Return it as the outbox reads it."""
        return Selection.of_group(self.group)


class SelectedAll(BaseModel):
    """Every one."""

    all: Literal[True]

    def selection(self) -> Selection:
        """Return it as the outbox reads it."""
        return Selection.of_all()


Selected = SelectedIds | SelectedGroup | SelectedAll
Action = Literal["retry", "discard"]
ACTIONS: Final[dict[Action, Callable[[psycopg.Connection, Selection], list[int]]]] = {
    "retry": dead_letters.retry,
    "discard": dead_letters.discard,
}


def dead_letter_routes(
    settings: ProjectorSettings, subscriber: RelaySubscriber, name: str, access: ConsoleAccess
) -> APIRouter:
    """Return the routes. Each request has a connection of its own, which no relay waits for."""
    router = APIRouter(prefix="/api/dead-letters")

    @contextmanager
    def connected() -> Iterator[psycopg.Connection]:
        with connect(
            settings, f"{name} console", autocommit=True, statement_timeout=TIMEOUT_MILLISECONDS
        ) as connection:
            yield connection

    @router.get("", dependencies=[Depends(access.reader)])
    def groups() -> dict[str, Any]:
        """Answer them by error, the largest group first."""
        with connected() as connection:
            return {"groups": [asdict(group) for group in dead_letters.groups(connection)]}

    @router.get("/messages", dependencies=[Depends(access.reader)])
    def messages(
        group: Annotated[GroupKey, Query()], after: Annotated[int, Query(ge=0, le=LARGEST_ID)] = 0
    ) -> dict[str, Any]:
        """Answer a page of a group, in id order; `next` is what to ask for the next one."""
        with connected() as connection:
            found = dead_letters.find(connection, Selection.of_group(group), after=after, limit=PAGE_SIZE + 1)
        page: Sequence[dead_letters.DeadLetter] = found[:PAGE_SIZE]
        more = len(found) > PAGE_SIZE
        return {"messages": [asdict(message) for message in page], "next": page[-1].id if more else None}

    @router.get("/messages/{message_id}", dependencies=[Depends(access.operator)])
    def message(message_id: Annotated[int, Path(ge=1, le=LARGEST_ID)]) -> dict[str, Any]:
        """Answer one in full, with its payload."""
        with connected() as connection:
            found = dead_letters.get(connection, message_id)
        if found is None:
            raise HTTPException(404, f"message {message_id} is no dead letter any more")
        return found

    @router.post("/{action}")
    def act(action: Action, selected: Selected, operator: Annotated[Token, Depends(access.operator)]) -> dict[str, Any]:
        """Retry or discard those selected; answer how many there were."""
        with connected() as connection:
            ids = ACTIONS[action](connection, selected.selection())
        subscriber.operated(operator.name, action, selected.model_dump(), ids)
        return {"count": len(ids)}

    return router
