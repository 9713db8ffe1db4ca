"""What the CLI's commands do when they are run: connect, show progress, and sum up."""

from projector.settings import ProjectorSettings
from projector.status import Overview, read_overview


def status() -> Overview:
    """Return the whole installation at a glance."""
    return read_overview(ProjectorSettings.load_or_exit())
