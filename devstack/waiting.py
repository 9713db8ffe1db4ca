"""Waiting for a condition by short polls, never by a sleep that hopes to be long enough."""

from collections.abc import Callable
from typing import TypeVar

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from devstack.errors import ServerError

POLL_SECONDS = 0.01

Result = TypeVar("Result")


def wait_until(condition: Callable[[], Result], *, seconds: float, failure: str | Callable[[], str]) -> Result:
    """Poll until the condition is true and return what it answered; else raise ServerError with `failure`.

    The condition may raise to give up early: that is how a wait ends when its process has died.
    """
    polling = Retrying(
        wait=wait_fixed(POLL_SECONDS),
        stop=stop_after_delay(seconds),
        retry=retry_if_result(lambda result: not result),
    )
    try:
        return polling(condition)
    except RetryError:
        raise ServerError(failure if isinstance(failure, str) else failure()) from None
