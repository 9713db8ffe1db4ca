"""Asks a running API or projector whether it is ready, and why it is not."""

import http.client
from http import HTTPStatus

from devstack.ports import HOST

SECONDS = 2.0
LONGEST = 600  # characters of an answer that are quoted


def is_ready(port: int) -> bool:
    """Whether GET /ready answers 200."""
    try:
        status, _ = _ask(port)
    except (OSError, http.client.HTTPException):
        return False
    return status == HTTPStatus.OK


def readiness(port: int) -> str:
    """Return what GET /ready answers, in words: it says what is missing."""
    try:
        status, body = _ask(port)
    except (OSError, http.client.HTTPException) as error:
        return f"/ready does not answer ({error})"
    return f"/ready answers {status} {' '.join(body.decode(errors='replace').split())[:LONGEST]}"


def _ask(port: int) -> tuple[int, bytes]:
    # Directly: a proxy named in the environment has no business here.
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        connection.request("GET", "/ready")
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
