"""Puts a server's files where the user that runs it can reach them.

PostgreSQL started by root runs as `nobody`, which enters neither a checkout below a 0700 home directory nor
pytest's temporary directories. No mode outside our own directories is ever widened. Instead, what `nobody`
cannot reach is put below /var/lib/backend-kata: data behind a symbolic link from the place where it was
wanted, programs as a copy.
"""

import secrets
import shutil
import stat
from pathlib import Path

from devstack.account import Account
from devstack.errors import ConfigurationError

REACHABLE_PLACES = (Path("/var/lib/backend-kata"), Path("/var/tmp/backend-kata"))  # noqa: S108 - checked by _is_ours
LINK = "elsewhere"
PROGRAMS = ("postgres", "initdb")


def reachable_directory(wanted: Path, account: Account | None) -> Path:
    """The wanted directory when the account can enter it, else a stand-in, always the same one."""
    link = wanted / LINK
    if link.is_symlink():
        return _existing_stand_in(link)
    if account is None or account.can_enter(wanted):
        return wanted
    stand_in = _reachable_place(account, f"the data directory {wanted}") / secrets.token_hex(8)
    make_enterable(stand_in)
    link.symlink_to(stand_in)
    return stand_in


def make_enterable(directory: Path) -> None:
    """Make a directory that others may pass through but not list, whatever the umask.

    An existing one is left alone.
    """
    if not directory.exists():
        directory.mkdir(parents=True)
        directory.chmod(0o711)


def reachable_programs(programs: Path, account: Account | None) -> Path:
    """The bin directory when the account can execute what is in it, else that of a copy."""
    if account is None or account.can_run(programs / "postgres"):
        return programs
    installation, package = programs.parent, programs.parent.parent
    place = _reachable_place(account, f"the programs in {programs}")
    copy = place / f"programs-{int((programs / 'postgres').stat().st_mtime)}"
    copied_programs = copy / package.name / installation.name / programs.name
    if not copy.exists():
        _copy_programs(programs, place, copy)
    if not account.can_run(copied_programs / "postgres"):
        message = f"PostgreSQL cannot be executed as the user {account.name}, not even from a copy in {copy}."
        raise ConfigurationError(message)
    return copied_programs


def _copy_programs(programs: Path, place: Path, copy: Path) -> None:
    """Copy what a server needs, laid out as the programs' RPATH wants it: $ORIGIN/../../../PACKAGE.libs."""
    installation, package = programs.parent, programs.parent.parent
    unfinished = place / f".{secrets.token_hex(8)}"
    target = unfinished / package.name / installation.name
    for part in ("lib", "share"):
        shutil.copytree(installation / part, target / part)
    (target / programs.name).mkdir()
    for program in PROGRAMS:
        shutil.copy(programs / program, target / programs.name)
    libraries = package.with_name(package.name + ".libs")
    shutil.copytree(libraries, unfinished / libraries.name)
    _make_readable(unfinished)
    try:
        unfinished.rename(copy)
    except OSError:  # another instance was faster
        shutil.rmtree(unfinished)


def _existing_stand_in(link: Path) -> Path:
    stand_in = link.readlink()
    if not stand_in.is_dir():
        message = f"The data were kept in {stand_in}, which is gone: remove {link.parent} to begin afresh."
        raise ConfigurationError(message)
    return stand_in


def _reachable_place(account: Account, what: str) -> Path:
    for place in REACHABLE_PLACES:
        try:
            make_enterable(place)
        except OSError:
            continue
        if _is_ours(place) and account.can_enter(place):
            return place
    places = " nor ".join(str(place) for place in REACHABLE_PLACES)
    message = (
        f"The user {account.name}, which PostgreSQL runs as, can reach neither {what} nor {places}:"
        " choose another place with --data-dir, or run kata as an ordinary user."
    )
    raise ConfigurationError(message)


def _is_ours(place: Path) -> bool:
    """Nobody but root may have prepared what root is about to execute."""
    state = place.lstat()
    return stat.S_ISDIR(state.st_mode) and state.st_uid == 0 and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _make_readable(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            executable = path.is_dir() or path.stat().st_mode & stat.S_IXUSR
            path.chmod(0o755 if executable else 0o644)
