"""Stories for hours, on servers of their own: `make soak`. SOAK_MINUTES says for how long, an hour unless told.

A failure ends it, with the story made short, and with what tells it again. Else what has happened is written for
EVIDENCE.md.
"""

import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Final

from hypothesis.errors import HypothesisException

from api.settings import ApiSettings
from devstack.mongod import Mongod
from devstack.postgres import Postgres
from devstack.scratch import scratch_directory
from projector.settings import ProjectorSettings
from tests.fixtures.databases import alembic
from tests.model.story import AGAIN, Story, in_world, tell
from tests.model.world import World

RESULT: Final = Path(__file__).parents[2] / "benchmarks" / "evidence" / "soak.md"

STORIES_A_ROUND: Final = 50
STEPS: Final = 80


class ToldStory(Story):
    """A story that says when it failed: it may take minutes until it is short enough to be shown."""

    has_failed = False

    def teardown(self) -> None:
        """End, and say how."""
        error = sys.exception()
        # Hypothesis breaks stories off, too.
        has_failed = isinstance(error, Exception) and not isinstance(error, HypothesisException)
        if has_failed and not ToldStory.has_failed:
            ToldStory.has_failed = True
            _say("A story has failed and is made short, which takes some minutes ...")
        super().teardown()


def main() -> None:
    """Tell stories until the time is over."""
    minutes = float(os.environ.get("SOAK_MINUTES", "60"))
    begun = time.monotonic()
    with (
        scratch_directory() as directory,
        Postgres.start(directory / "postgres", settings={"fsync": "off"}) as postgres,
        Mongod.start(directory / "mongo") as mongod,
    ):
        alembic(postgres.dsn, "upgrade", "head")
        servers: dict[str, Any] = {
            "database_url": postgres.dsn,
            "mongo_url": mongod.uri,
            "mongo_database": "soak",
        }
        with World(ProjectorSettings(**servers), ApiSettings(**servers)) as world:
            while time.monotonic() - begun < minutes * 60:
                tell(in_world(world, ToldStory), stories=STORIES_A_ROUND, steps=STEPS, derandomize=False)
                _progress(world, time.monotonic() - begun, minutes)
                if AGAIN in os.environ:
                    return
            RESULT.write_text(_table(world, time.monotonic() - begun), encoding="utf-8")
    _say(f"{RESULT.name} is written")


def _progress(world: World, seconds: float, minutes: float) -> None:
    tally = world.tally
    ended = sum(count for what, count in tally.items() if what.endswith(("was killed", "lost its servers")))
    _say(
        f"{seconds / 60:.0f} of {minutes:.0f} minutes: {tally['stories']:,} stories, {tally['steps']:,} steps, "
        f"{tally['commands']:,} commands, {ended:,} ended in the middle, {tally['drains']:,} drains, no failure"
    )


def _table(world: World, seconds: float) -> str:
    rows = [f"| {what} | {count:,} |" for what, count in sorted(world.tally.items()) if count]
    head = f"{seconds / 60:.0f} minutes on Python {platform.python_version()}, failures: 0."
    return "\n".join([head, "", "| what | how often |", "|---|---|", *rows, ""])


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
