"""Runs `kata` of a stand-in checkout as processes, as a user would."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

SECONDS = 60.0

MIGRATIONS = "import pathlib, sys; sys.exit(pathlib.Path('migrations-fail').exists() and 'no such revision')\n"

ROLES = "import pathlib, sys; sys.exit(pathlib.Path('roles-fail').exists() and 'refused')\n"

APPLICATION = """
import http.server, os, pathlib, sys

if pathlib.Path("applications-fail").exists():
    sys.exit("no such setting")

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_ready = not pathlib.Path("not-ready").exists()
        self.send_response(200 if is_ready else 503)
        self.end_headers()
        self.wfile.write(b'{"status": "ready"}' if is_ready else b'{"status": "not ready",\\n "mongo": "away"}')

port = os.environ.get("API_PORT") or os.environ["PROJECTOR_HTTP_PORT"]
http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Ready).serve_forever()
"""


def eventually(condition: Callable[[], Any], what: str) -> Any:
    """Poll until the condition is true; its answer."""
    deadline = time.monotonic() + SECONDS
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {SECONDS} s: {what}"
        time.sleep(0.02)
    return answer


def is_gone(pid: int) -> bool:
    """Whether no living process has this number; a zombie waits only for whoever should have noticed its end."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


class StandIn:
    """One checkout and its data directory."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.data = checkout / ".kata"
        self._foreground: list[subprocess.Popen[str]] = []

    def command(self, *arguments: str) -> list[str]:
        """The command line of kata; ports are any free ones unless said otherwise."""
        free = ("--api-port", "0", "--projector-port", "0") if arguments[0] == "up" else ()
        return [sys.executable, "-m", "devstack.cli", arguments[0], *free, *arguments[1:]]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run kata to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def up(self, *arguments: str, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """Start kata in the foreground; wait with ready()."""
        process = subprocess.Popen(
            [*prefix, *self.command("up", "--json", *arguments)],
            cwd=self.checkout,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._foreground.append(process)
        return process

    def ready(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """What it printed when it was ready."""
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        addresses: dict[str, Any] = json.loads(line)
        return addresses

    def status(self) -> dict[str, Any]:
        """What `kata status --json` says."""
        content: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return content

    def pids(self, role: str | None = None) -> list[int]:
        """The process ids that status shows."""
        processes = self.status()["processes"]
        return [process["pid"] for process in processes if process["pid"] and role in (None, process["role"])]

    def log(self, name: str) -> str:
        """The content of a log."""
        return (self.data / "logs" / f"{name}.log").read_text()

    def end(self) -> None:
        """Stop everything, close the pipes."""
        self.run("down")
        for process in self._foreground:
            process.kill()
            process.communicate()


def environment_of(pid: int) -> dict[str, str]:
    """The environment a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return dict(os.fsdecode(entry).split("=", 1) for entry in entries if entry)
