"""The report as an operator reads it: findings first, each with its cause and its remedy; then what was looked at."""

from collections.abc import Mapping
from typing import Final

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from projector.doctor.examine import Report
from projector.doctor.finding import Severity

STYLES: Final[Mapping[Severity, str]] = {Severity.ERROR: "bold red", Severity.WARNING: "bold yellow"}


def show(report: Report, console: Console) -> None:
    """Print the report. Only on a terminal are lines wrapped: elsewhere a command stays on one line."""
    for check, findings in report.findings.items():
        for finding in findings:
            console.print(Text.assemble((finding.severity.value.upper(), STYLES[finding.severity]), f"  {check}"))
            _print_indented(console, Text(finding.cause))
            _print_indented(console, Text.assemble(("-> ", "bold"), finding.remedy))
            console.print()
    number = sum(map(len, report.findings.values()))
    verdict = Text("Healthy: nothing found.", "green") if report.is_healthy else Text(f"Found: {number}.", "bold")
    _print(console, Text.assemble(verdict, f" Looked at: {', '.join(report.checked)}."))
    for reason in dict.fromkeys(report.unchecked.values()):
        checks = ", ".join(check for check, why in report.unchecked.items() if why == reason)
        _print(console, Text(f"Not looked at: {checks} ({reason})."))


def _print(console: Console, text: Text) -> None:
    console.print(text, soft_wrap=not console.is_terminal)


def _print_indented(console: Console, text: Text) -> None:
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, 2)))
    else:
        _print(console, Text.assemble("  ", text))
