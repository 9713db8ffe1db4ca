"""Ports on 127.0.0.1. A database keeps its port in a file, because a replica set is configured by address."""

import contextlib
import socket
from pathlib import Path

HOST = "127.0.0.1"
HIGHEST_PORT = 65535


def is_free(port: int) -> bool:
    """Whether a server could listen here now.

    Old connections that linger do not count, as they do not for servers.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def free_ports(count: int) -> list[int]:
    """So many different free ports: all are held until the last is chosen."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [int(each.getsockname()[1]) for each in sockets]


def accepts_connections(port: int) -> bool:
    """Whether somebody listens here."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def choose_port(file: Path, wanted: int = 0) -> int:
    """The wanted port, else the kept one, else a new one.

    A kept one that is taken is replaced; a wanted one is not: then the server itself says that it is taken.
    """
    port = wanted or _read(file)
    if port and (wanted or is_free(port)):
        return port
    return free_ports(1)[0]


def keep_port(file: Path, port: int) -> None:
    """Have the next choose_port answer this one.

    Only when the server listens: a second one that fails on the same data must not change what the first one
    believes in.
    """
    file.write_text(f"{port}\n")


def _read(file: Path) -> int:
    try:
        return int(file.read_text())
    except (FileNotFoundError, ValueError):
        return 0
