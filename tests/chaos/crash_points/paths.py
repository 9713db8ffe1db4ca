"""Every path, by its name."""

from collections.abc import Mapping
from typing import Final

from tests.chaos.crash_points import command_path, operator_paths, relay_paths
from tests.chaos.crash_points.path import Path

PATHS: Final[Mapping[str, Path]] = {
    path.name: path for path in (*command_path.PATHS, *relay_paths.PATHS, *operator_paths.PATHS)
}
