"""Runs a command so that it cannot outlive the process that started it.

Usage: leash.py PARENT SIGNAL UID GID COMMAND...

Executed as a script, in front of the real command, which keeps the process id. It drops root when it is told
to, asks the kernel for SIGNAL at the parent's death (PR_SET_PDEATHSIG, Linux), and becomes the command. A
script instead of subprocess's preexec_fn, because the latter forks a process that may have threads; Python
code that is already loaded instead of `subprocess(user=)`, because that user may be unable to reach the
interpreter.

The order matters: changing the user clears the death signal. The signal belongs to the parent's THREAD that
forked, so only main threads start children. macOS has no such signal: there a killed supervisor leaves its
servers behind until the next `kata up` or `kata down` on the same data, which ends them.
"""

import ctypes  # here, not where it is needed: the user we become may be unable to read Python's library
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
COULD_NOT_RUN = 127  # what a shell answers, and what the loader answers when a library is missing


def die_with_parent(parent: int, death_signal: int) -> None:
    """Have the kernel send death_signal when the parent dies; exit at once when it is dead already."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(COULD_NOT_RUN)


def main(arguments: list[str]) -> None:
    """Become the command; never returns when that works."""
    parent, death_signal, uid, gid = (int(argument) for argument in arguments[:4])
    command = arguments[4:]
    try:
        if uid >= 0:
            os.setgroups([])
            os.setgid(gid)
            os.setuid(uid)
        die_with_parent(parent, death_signal)
        # Python ignores SIGPIPE and whoever started us may ignore SIGINT; both would be inherited.
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        os.execv(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as error:
        sys.stderr.write(f"cannot run {command[0]}: {error.strerror}\n")
        sys.exit(COULD_NOT_RUN)


if __name__ == "__main__":
    main(sys.argv[1:])
