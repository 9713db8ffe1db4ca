"""Runs the checks one after the other. One that hangs or fails is a finding itself and does not hide the others.

Each works on a connection of its own and on a thread of its own, which is left behind when it takes too long.
"""

from collections.abc import Iterable
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import Any, Final

from projector.doctor.finding import Check, Finding, NotSeenError, Severity
from projector.settings import ProjectorSettings
from projector.subscriber import describe
from shared.background import in_background

# A check that works connects within the connect time-out, and its statements have time-outs of their own.
MARGIN_SECONDS: Final = 10.0


@dataclass
class Report:
    """What was looked at: the findings of each check that had any, and why others could not be made."""

    findings: dict[str, list[Finding]] = field(default_factory=dict)
    checked: list[str] = field(default_factory=list)
    unchecked: dict[str, str] = field(default_factory=dict)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong, as far as it could be seen."""
        return not self.findings

    def has_error(self, check: str) -> bool:
        """Whether this check found an error."""
        return any(finding.severity is Severity.ERROR for finding in self.findings.get(check, ()))

    def as_json(self) -> dict[str, Any]:
        """Return the report as one object."""
        return {
            "healthy": self.is_healthy,
            "findings": [
                {
                    "check": check,
                    "severity": finding.severity.value,
                    "cause": finding.cause,
                    "remedy": finding.remedy,
                    "details": dict(finding.details),
                }
                for check, findings in self.findings.items()
                for finding in findings
            ],
            "checked": self.checked,
            "unchecked": self.unchecked,
        }


def examine(checks: Iterable[Check], settings: ProjectorSettings) -> Report:
    """Make the checks in their order and return what they found."""
    report = Report()
    for check in checks:
        blocking = next(filter(report.has_error, check.needs), None)
        if blocking:
            report.unchecked[check.name] = f"see {blocking}"
            continue
        try:
            found = _look(check, settings)
        except NotSeenError as error:
            report.unchecked[check.name] = str(error)
            continue
        report.checked.append(check.name)
        if found:
            report.findings[check.name] = found
    return report


def _look(check: Check, settings: ProjectorSettings) -> list[Finding]:
    looking = in_background(lambda: list(check.look(settings)))
    seconds = settings.connect_timeout_seconds + MARGIN_SECONDS
    if not wait([looking], seconds).done:
        return [_failed(f"gave no answer within {seconds:.0f} s")]
    match looking.exception():
        case None:
            return looking.result()
        case NotSeenError() as error:
            raise error
        case error:
            return [_failed(f"failed: {describe(error)}")]


def _failed(what: str) -> Finding:
    return Finding(
        f"this check {what}",
        "mend what the other findings name, then run `projector doctor` again; if this stays, the error text says why",
    )
