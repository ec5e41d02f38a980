"""What a live controller decided, from its log (text or JSON lines) or from ScaledService objects as JSON."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from autoscaler.timestamps import unix_s
from simulations.errors import ReplayError
from simulations.replays.course import Change, Course

FILE_BYTES_MAX = 200_000_000  # a year of a busy controller's log
# `autoscaler.controller` writes one such line for each decision that changes the number; who collects logs may escape.
DECIDED = re.compile(
    r"(?P<service>\S+/\S+): (?P<before>\d{1,5}) (?:→|\\u2192|would be) (?P<after>\d{1,5}) replicas"
    r" \((?P<reason>[^)]*)\)"
)
TIME = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)[,.](\d{3})", re.ASCII)

Found = tuple[str, float, int, int, str]  # service, Unix seconds, before, after, reason


def read_decisions(path: Path, service: str | None) -> tuple[str, Course]:
    """The course of one service, in Unix seconds; logs are read as UTC. ReplayError says what is missing."""
    text = _text(path)
    found = list(_objects(path, text) if _is_document(text) else _lines(text))
    names = sorted({name for name, *_ in found})
    if not found:
        raise ReplayError(f"{path}: expected a controller's log or ScaledServices as JSON; no decision is in it")
    if service is None and len(names) > 1:
        raise ReplayError(f"{path} has decisions of {len(names)} services; name one: {', '.join(names[:8])}")
    wanted = names[0] if service is None else service
    chosen = sorted((one for one in found if one[0] == wanted), key=lambda one: one[1])
    if not chosen:
        raise ReplayError(f"{path} has no decision of {wanted}; there are: {', '.join(names[:8])}")
    changes = [Change(at_s=at_s, replicas=after, reason=reason) for _, at_s, _, after, reason in chosen]
    begun = Change(at_s=0.0, replicas=chosen[0][2], reason="before the first decision")
    return wanted, Course(changes=(begun, *changes))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ReplayError(f"{path}: expected at most {FILE_BYTES_MAX:,} bytes")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as exc:
        raise ReplayError(f"{path} cannot be read: {exc.strerror}") from exc


def _is_document(text: str) -> bool:
    """JSON over several lines, or a whole object on one: not a log of one object per line."""
    head = text.lstrip()[:4000]
    return head.startswith("{") and '"apiVersion"' in head


def _lines(text: str) -> Iterator[Found]:
    for line in text.splitlines():
        decided, time = DECIDED.search(line), TIME.search(line)
        if decided is None or time is None:
            continue
        at_s = datetime.fromisoformat(f"{time[1]}T{time[2]}.{time[3]}").replace(tzinfo=UTC).timestamp()
        service = decided["service"].rpartition('"')[2]
        yield service, at_s, int(decided["before"]), int(decided["after"]), decided["reason"]


def _objects(path: Path, text: str) -> Iterator[Found]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise ReplayError(f"{path}: expected JSON: {exc}") from exc
    for one in found.get("items", [found]):
        if not isinstance(one, Mapping) or one.get("kind") not in ("ScaledService", None):
            continue
        metadata, status = one.get("metadata") or {}, one.get("status") or {}
        service = f"{metadata.get('namespace', 'default')}/{metadata.get('name')}"
        for change in status.get("recentChanges") or []:
            yield service, *_change(f"{path}: {service}", change)


def _change(where: str, change: Mapping[str, str]) -> tuple[float, int, int, str]:
    try:
        at_s = unix_s(change["time"])
        numbers = int(change["before"]), int(change["after"])
        reason = str(change["reason"])
    except (KeyError, TypeError, ValueError) as exc:
        raise ReplayError(f"{where}: status.recentChanges is not as Warmtide writes it: {exc!r}") from exc
    if at_s is None:
        raise ReplayError(f"{where}: status.recentChanges has no time such as 2026-11-21T10:00:00Z: {change['time']!r}")
    return at_s, *numbers, reason
