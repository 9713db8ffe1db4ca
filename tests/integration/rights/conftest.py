"""The API and a projector as processes, each under the role for it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
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


@dataclass(frozen=True)
class Running:
    """Both processes and what they log."""

    api: ApiProcess
    projector: ProjectorProcess


@pytest.fixture(scope="module")
def running(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Both, ready."""
    with ExitStack() as stack:

        def start(arguments: list[str], role: Role, **environment: str) -> tuple[subprocess.Popen[bytes], Path]:
            path = tmp_path_factory.mktemp(role) / "log"
            log = stack.enter_context(path.open("wb"))
            environment = {**os.environ, **guarded.environment(role), "LOG_FORMAT": "json", **environment}
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, stdout=log, stderr=log
            )
            stack.callback(process.wait, 20)
            stack.callback(process.kill)
            return process, path

        quick = {"MAX_ATTEMPTS": "2", "RETRY_PAUSE_SECONDS": "0", "VERIFY_SAMPLE_SECONDS": "0"}
        projector = ProjectorProcess(*start(["projector.cli", "run"], Role.PROJECTOR, PROJECTOR_HTTP_PORT="0", **quick))
        stack.callback(projector.http.close)
        (port,) = free_ports(1)
        api_process, api_log = start(["api.main"], Role.API, API_PORT=str(port))
        api = ApiProcess(api_process, port, api_log)
        stack.callback(api.client.close)
        wait_until(api.answers, "the API serves", 60)
        projector.wait_ready()
        yield Running(api, projector)
