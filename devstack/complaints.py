"""Turns what a server wrote before it died into one sentence with its remedy."""

import re

DEBIAN_PACKAGES = {
    "libcurl.so.4": "libcurl4",
    "libssl.so.3": "libssl3",
    "libcrypto.so.3": "libssl3",
    "liblzma.so.5": "liblzma5",
}

MISSING_LIBRARY = re.compile(r"error while loading shared libraries: (?P<library>\S+):")
TOO_OLD_A_SYSTEM = re.compile(r"version [`'](?P<version>GLIBC_[\d.]+)' not found")
TAKEN_PORT = re.compile(r"Address already in use", re.IGNORECASE)
NOT_EXECUTABLE = re.compile(r"^cannot run (?P<program>\S+): (?P<reason>.+)$", re.MULTILINE)


def taken_port(server: str) -> str:
    """Say that somebody else listens where the server should."""
    return f"The port of {server} is taken by another program: stop that one, or start again on another port."


def remedy(server: str, written: str) -> str | None:
    """What to do about it, or None when the text is not one of the known complaints."""
    if found := MISSING_LIBRARY.search(written):
        library = found["library"]
        package = DEBIAN_PACKAGES.get(library)
        if package:
            return f"{server} needs {package}, which is missing: apt-get install {package} (Debian, Ubuntu)."
        return f"{server} needs the library {library}: install the package that carries it."
    if found := TOO_OLD_A_SYSTEM.search(written):
        return f"{server} needs {found['version']}: Debian 12 or Ubuntu 22.04 have it, this system does not."
    if TAKEN_PORT.search(written):
        return taken_port(server)
    if found := NOT_EXECUTABLE.search(written):
        return f"{server} cannot be executed on this system ({found['program']}: {found['reason']})."
    return None
