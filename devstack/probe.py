"""Asks a running API or projector whether it is ready."""

import http.client
from http import HTTPStatus

from devstack.ports import HOST

SECONDS = 2.0


def is_ready(port: int) -> bool:
    """Whether GET /ready answers 200. Directly: a proxy named in the environment has no business here."""
    connection = http.client.HTTPConnection(HOST, port, timeout=SECONDS)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
