"""The network of a storm cuts the links it is told to cut, and no others."""

import os
import socket
import socketserver
import threading
from collections.abc import Iterator

import pytest

from tests.chaos.storm.network import NOBODY, Network

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/net/tcp"), reason="it needs Linux's /proc")  # noqa: PTH110


class Echo(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(line)


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that says again what it is told."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server.server_address[1]
        server.shutdown()


def connected(network: Network, echo: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", network.listen("echo", echo)), 10)
    assert said_again(connection, b"first\n") == b"first\n"
    return connection


def said_again(connection: socket.socket, line: bytes) -> bytes:
    connection.sendall(line)
    return connection.recv(100)


def test_what_was_sent_over_a_cut_link_arrives_when_it_is_whole_again(echo: int) -> None:
    with Network(lambda: {"here": os.getpid()}) as network, connected(network, echo) as connection:
        with network.cut([("here", "echo"), ("here", "echo")], reset=False):
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                said_again(connection, b"late\n")
        connection.settimeout(10)
        assert connection.recv(100) == b"late\n"


def test_a_link_comes_back_with_its_connections_reset_if_it_is_to(echo: int) -> None:
    with Network(lambda: {"here": os.getpid()}) as network, connected(network, echo) as connection:
        with network.cut([("here", "echo")], reset=True):
            connection.sendall(b"lost\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(100)


def test_nothing_new_connects_over_a_cut_link(echo: int) -> None:
    with Network(lambda: {"here": os.getpid()}) as network:
        port = network.listen("echo", echo)
        with network.cut([("here", "echo")], reset=False):
            connection = socket.create_connection(("127.0.0.1", port), 10)
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                said_again(connection, b"late\n")
        connection.settimeout(10)
        assert connection.recv(100) == b"late\n"
        connection.close()


@pytest.mark.parametrize("name", ["another", NOBODY])
def test_the_links_of_other_processes_stay_whole(echo: int, name: str) -> None:
    with (
        Network(lambda: {} if name == NOBODY else {name: os.getpid()}) as network,
        connected(network, echo) as connection,
        network.cut([("here", "echo"), (name, "something else")], reset=True),
    ):
        assert said_again(connection, b"second\n") == b"second\n"
