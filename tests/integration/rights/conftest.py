"""The API and a projector as processes, each under the role for it."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from devstack.ports import free_ports
from shared.rights.role import Role
from tests.fixtures.api_processes import ApiProcess
from tests.fixtures.databases import ROOT
from tests.fixtures.roles import Guarded
from tests.fixtures.waiting import wait_until
from tests.integration.projector.conftest import ProjectorProcess

QUICK = {"MAX_ATTEMPTS": "2", "RETRY_PAUSE_SECONDS": "0", "VERIFY_SAMPLE_SECONDS": "0", "CONNECT_TIMEOUT_SECONDS": "5"}


@dataclass(frozen=True)
class Running:
    """Both processes and what they log."""

    api: ApiProcess
    projector: ProjectorProcess


@contextmanager
def running_as(directory: Path, api: Mapping[str, str], projector: Mapping[str, str]) -> Iterator[Running]:
    """Run both in these environments; they answer, whatever they have to wait for."""
    with ExitStack() as stack:

        def start(arguments: list[str], environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Path]:
            path = directory / f"{arguments[0]}.log"
            log = stack.enter_context(path.open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                cwd=ROOT,
                env={**os.environ, "LOG_FORMAT": "json", **QUICK, **environment},
                stdout=log,
                stderr=log,
            )
            stack.callback(process.wait, 20)
            stack.callback(process.kill)
            return process, path

        (port,) = free_ports(1)
        projecting = ProjectorProcess(*start(["projector.cli", "run"], {**projector, "PROJECTOR_HTTP_PORT": "0"}))
        stack.callback(projecting.http.close)
        process, log = start(["api.main"], {**api, "API_PORT": str(port)})
        serving = ApiProcess(process, port, log)
        stack.callback(serving.client.close)
        wait_until(serving.answers, "the API serves", 60)
        wait_until(lambda: projecting.events("projector.started"), "the projector has started", 60)
        yield Running(serving, projecting)


@pytest.fixture(scope="module")
def running(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Both, ready."""
    environments = guarded.environment(Role.API), guarded.environment(Role.PROJECTOR)
    with running_as(tmp_path_factory.mktemp("running"), *environments) as both:
        both.projector.wait_ready()
        yield both
