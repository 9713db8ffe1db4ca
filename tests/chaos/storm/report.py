"""The table of a storm, for EVIDENCE.md."""

from collections import Counter
from collections.abc import Iterator
from statistics import median

from tests.chaos.storm.judge_answers import fell_behind
from tests.chaos.storm.replayer import REPLAY
from tests.chaos.storm.storm import Course
from tests.chaos.storm.wrong import Wrong


def table(course: Course) -> str:
    """Return it as Markdown."""
    rows = [("what", "how many"), ("---", "---:"), *_faults(course), *_told(course), *_wrong(course)]
    return "\n".join(f"| {name} | {value} |" for name, value in rows)


def _faults(course: Course) -> Iterator[tuple[str, str]]:
    yield "minutes under load", f"{course.seconds / 60:.1f}"
    yield "gusts, after each of which everything recovered", f"{len(course.recoveries)}"
    yield "longest recovery, median, seconds", f"{max(course.recoveries):.1f}, {median(course.recoveries):.1f}"
    yield "faults", f"{course.faults.total():,}"
    for kind, count in sorted(course.faults.items()):
        yield f"- {kind}", f"{count:,}"
    for end in ("done", "killed", "given up"):
        yield f"replays {end}", f"{course.replays[f'{REPLAY}: {end}']:,}"


def _told(course: Course) -> Iterator[tuple[str, str]]:
    told = course.told
    yield "requests", f"{len(told.entries):,}"
    yield "commands acknowledged", f"{len({entry.mark for entry in told.acknowledged}):,}"
    unknown = {e.mark for e in told.commands if e.is_unknown} - {e.mark for e in told.acknowledged}
    yield "commands whose outcome their client never learned", f"{len(unknown):,}"
    repeated = sum(len(attempts) > 1 for mark, attempts in told.by_mark.items() if attempts[0].method == "POST")
    yield "requests sent more than once under one Idempotency-Key", f"{repeated:,}"
    yield "token reads answered", f"{len(told.token_reads):,}"
    yield "documents compared in both stores in the end", f"{course.documents:,}"


def _wrong(course: Course) -> Iterator[tuple[str, str]]:
    found = Counter(finding.wrong for finding in course.findings)
    yield "**acknowledged commands lost**", f"**{found[Wrong.LOST]}**"
    yield "**stale token reads**", f"**{found[Wrong.STALE]}**"
    yield "**reads that went behind what their client knew**", f"**{found[Wrong.WENT_BACK]}**"
    yield "**commands done twice**", f"**{found[Wrong.DUPLICATE]}**"
    yield "**commands done although nothing was changed, it was said**", f"**{found[Wrong.UNTRUE]}**"
    yield "**drift in the end**", f"**{found[Wrong.DRIFT]}**"
    others = found[Wrong.ANSWER] + found[Wrong.PROCESS] + found[Wrong.REPLAY]
    yield "**answers 500, processes that ended by themselves, replays that failed**", f"**{others}**"
    yield (
        "token reads behind what the client had seen before it was settled (not promised)",
        f"{fell_behind(course.told)}",
    )
