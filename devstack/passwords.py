"""Random passwords, kept in files that only their owner can read.

They are never logged and never on a command line.
"""

import os
import secrets
from pathlib import Path


def kept_password(file: Path) -> str:
    """The password in the file; the first call makes one.

    Letters and digits that need no escaping in a URL.
    """
    try:
        return file.read_text().strip()
    except FileNotFoundError:
        password = secrets.token_hex(24)
        write_private(file, password + "\n")
        return password


def write_private(file: Path, text: str) -> None:
    """Write a file of mode 0600 so that no crash leaves half of it."""
    unfinished = file.with_name(file.name + ".new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        output.write(text)
    unfinished.replace(file)
