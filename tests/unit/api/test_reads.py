"""A query whose collection was swapped under it is asked once again."""

import asyncio

import pytest
from pymongo.errors import OperationFailure

from api.reads import SWAPPED, again_if_swapped


def query(*outcomes: OperationFailure | str) -> tuple[list[int], str | OperationFailure]:
    """Ask a query that ends like this, one time after the other; return its calls, and what came of it."""
    left, calls = list(outcomes), list[int]()

    @again_if_swapped
    async def ask(number: int) -> str:
        calls.append(number)
        outcome = left.pop(0)
        if isinstance(outcome, OperationFailure):
            raise outcome
        return outcome

    try:
        return calls, asyncio.run(ask(7))
    except OperationFailure as error:
        return calls, error


@pytest.mark.parametrize("code", sorted(SWAPPED))
def test_it_is_asked_again_after_a_swap(code: int) -> None:
    assert query(OperationFailure("gone", code), "page") == ([7, 7], "page")


def test_it_is_asked_again_only_once() -> None:
    again = OperationFailure("again", 175)
    assert query(OperationFailure("gone", 175), again, "page") == ([7, 7], again)


def test_any_other_error_is_told_at_once() -> None:
    error = OperationFailure("too slow", 50)
    assert query(error, "page") == ([7], error)
