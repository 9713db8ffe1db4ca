"""Fixtures live in tests/fixtures, a module a subject; tests use real servers."""

import os
import signal

import hypothesis
import pytest

from devstack.applications import ELSEWHERE

pytest_plugins = [
    "tests.fixtures.servers",
    "tests.fixtures.databases",
    "tests.fixtures.roles",
    "tests.fixtures.tls",
    "tests.fixtures.relays",
    "tests.fixtures.replays",
    "tests.fixtures.clients",
    "tests.fixtures.api_processes",
    "tests.fixtures.replica_sets",
    "tests.fixtures.consoles",
    "tests.fixtures.browsers",
]


# The suite tries the same inputs every time, however slow the machine; `make soak` and `make fuzz` make up others.
hypothesis.settings.register_profile(
    "suite",
    derandomize="FUZZ_EXAMPLES" not in os.environ,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")


def pytest_configure() -> None:
    """Keep whoever runs the tests out of them.

    Tests interrupt what they start, and what runs the suite in the background may have SIGINT and SIGHUP ignored. And
    what they migrate and empty must not be what he has set for these commands.
    """
    for name in ELSEWHERE:
        os.environ.pop(name, None)
        os.environ.pop(f"{name}_FILE", None)
    # What is ignored stays ignored in children; what is handled, or has its default, has that there.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say where the servers come from; their versions follow once they run."""
    from tests.fixtures.servers import source_of_servers  # noqa: PLC0415 - after the plugins are loaded

    return [f"servers: {source_of_servers()}"]
