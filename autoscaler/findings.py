"""What `warmtide check` found out: one line each, with what to do. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from autoscaler.explanation import table


class Verdict(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was examined."""

    verdict: Verdict
    subject: str  # what was examined
    message: str  # what was found
    todo: str = ""  # what to do about it; empty when all is well


def ok(subject: str, message: str) -> Finding:
    """All is well."""
    return Finding(verdict=Verdict.OK, subject=subject, message=message)


def warn(subject: str, message: str, todo: str) -> Finding:
    """It works, but not as well as it could."""
    return Finding(verdict=Verdict.WARN, subject=subject, message=message, todo=todo)


def fail(subject: str, message: str, todo: str) -> Finding:
    """It cannot work like this."""
    return Finding(verdict=Verdict.FAIL, subject=subject, message=message, todo=todo)


def failed(findings: Iterable[Finding]) -> bool:
    """Whether anything cannot work."""
    return any(finding.verdict is Verdict.FAIL for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """A table, what to do below each line that needs it, and a summary."""
    rows = table(((f.verdict.value, f.subject, f.message) for f in findings), indent="")
    lines = []
    for row, finding in zip(rows, findings, strict=True):
        lines += [row, f"      -> {finding.todo}"] if finding.todo else [row]
    counts = {verdict: sum(f.verdict is verdict for f in findings) for verdict in Verdict}
    summary = ", ".join(f"{count} {verdict.value}" for verdict, count in counts.items() if count)
    return "\n".join([*lines, "", summary]) + "\n"


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The same for programs."""
    return {"ok": not failed(findings), "checks": [asdict(finding) for finding in findings]}
