"""Tells a process from a later one of the same number: no number alone is believed, shown or signalled.

A process is its number and its start: on Linux the boot and the clock tick of /proc/PID/stat (proc(5), field
22), elsewhere what ps says. A zombie is dead.
"""

import subprocess
from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
STATE, START_TIME = 0, 19  # fields 3 and 22, counted from the one after the name


def identity(pid: int) -> str | None:
    """A text that no other process has ever had, or None when there is no living process with this number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None if BOOT_ID.exists() else _identity_from_ps(pid)
    except ProcessLookupError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name may contain anything, even ")"
    if fields[STATE] in "ZX":
        return None
    return f"{BOOT_ID.read_text().strip()}:{fields[START_TIME]}"


def _identity_from_ps(pid: int) -> str | None:
    listing = subprocess.run(
        ["/bin/ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = listing.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None
