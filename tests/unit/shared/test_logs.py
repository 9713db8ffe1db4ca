"""Logs: one form for our lines and everybody else's, and no local variables in tracebacks."""

import json
import subprocess
import sys

import pytest

CODE = """
import logging, structlog
from shared.logs import configure_logs, get_logger

configure_logs("{level}", "{form}", "service")
log = get_logger("part")
log.debug("fine")
with structlog.contextvars.bound_contextvars(request_id="r1"):
    log.info("happened", number=5, text="two\\nlines")
    logging.getLogger("library").warning("of %s", "theirs")
logging.getLogger("library").info("too much")

def fail(secret):
    raise ValueError("why")

try:
    fail("hunter" + "2")
except ValueError as error:
    log.error("broke", exc_info=error)
    logging.getLogger("library").exception("theirs broke")
"""


def logged(level: str, form: str) -> list[str]:
    """Return what a process writes to stderr that logs a bit of everything."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(level=level, form=form)], capture_output=True, text=True, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


@pytest.mark.parametrize("form", ["json", "auto"])
def test_off_a_terminal_every_line_is_one_json_object(form: str) -> None:
    lines = [json.loads(line) for line in logged("info", form)]
    assert [line["event"] for line in lines] == ["happened", "of theirs", "broke", "theirs broke"]
    assert [line["level"] for line in lines] == ["info", "warning", "error", "error"]
    assert {line["service"] for line in lines} == {"service"}
    assert all(line["timestamp"].endswith("Z") for line in lines)
    assert lines[0] | {"timestamp": ""} == {
        "event": "happened", "level": "info", "service": "service", "part": "part", "number": 5, "text": "two\nlines",
        "request_id": "r1", "timestamp": "",
    }  # fmt: skip
    assert lines[1]["request_id"] == "r1"
    assert all("ValueError: why" in line["exception"] for line in lines[2:])


@pytest.mark.parametrize("form", ["json", "console"])
def test_tracebacks_show_no_local_variables(form: str) -> None:
    text = "\n".join(logged("debug", form))
    assert text.count("ValueError: why") == 2
    assert "hunter2" not in text


def test_the_level_is_the_least_that_is_written() -> None:
    assert json.loads(logged("debug", "json")[0])["event"] == "fine"
    assert [json.loads(line)["event"] for line in logged("error", "json")] == ["broke", "theirs broke"]
