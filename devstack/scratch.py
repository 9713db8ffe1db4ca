"""A directory for servers that live as long as a test run."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch_directory() -> Iterator[Path]:
    """A temporary directory that the user whom root runs PostgreSQL as can enter, unlike pytest's tmp_path.

    It is removed with all that is in it, so stop the servers first.
    """
    directory = Path(tempfile.mkdtemp(prefix="kata-"))
    try:
        if os.geteuid() == 0:
            directory.chmod(0o711)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
