"""What changed from one `ScaledService.status` to the next: whether to write it, as what patch, which Events. Pure.

A status is written at once when something changed that an operator cares for, else now and then: figures move with
every scrape, and 500 services must not rewrite etcd with them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoscaler.conditions import is_bad
from autoscaler.status import ChangeStatus, ConditionStatus
from autoscaler.timestamps import unix_s

# Figures that only moved are written this often, what was learned likewise.
REFRESH_S = 60.0
# A reason that flaps without changing the number is written no more often than this.
REASON_SPACING_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """An Event to send."""

    type: str  # Normal or Warning
    reason: str
    message: str


def needs_write(previous: Mapping[str, Any], status: Mapping[str, Any], now_s: float) -> bool:
    """Whether to write now rather than let it rest."""
    written_s = unix_s(previous.get("time", ""))
    if written_s is None or _vital(previous) != _vital(status):
        return True
    age_s = abs(now_s - written_s)  # a clock that jumped back must not silence us
    return age_s >= REFRESH_S or (age_s >= REASON_SPACING_S and previous.get("reason") != status.get("reason"))


def status_patch(previous: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
    """The merge patch body that makes `previous` into `status`: fields that are gone become null."""
    gone = {key: None for key in previous if key not in status}
    changed = {
        key: status_patch(previous[key], value)
        if isinstance(value, Mapping) and isinstance(previous.get(key), Mapping)
        else value
        for key, value in status.items()
    }
    return changed | gone


def events_for(previous: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Events for what changed between two statuses: numbers whose reason is new, conditions that turned."""
    notices = list(_turned(previous.get("conditions") or [], status.get("conditions") or []))
    changes, known = status.get("recentChanges") or [], previous.get("recentChanges") or []
    if changes and changes[0] not in known:
        newest = changes[0]
        is_new = not known or known[0]["reason"] != newest["reason"] or _grew(known[0]) != _grew(newest)
        if is_new:
            notices.append(Notice(type="Normal", reason=newest["reason"], message=newest["message"]))
    return tuple(dict.fromkeys(notices))  # one problem may turn two conditions


def _vital(status: Mapping[str, Any]) -> str:
    """What an operator cares for, comparable."""
    conditions = [(c["type"], c["status"], c["reason"]) for c in status.get("conditions") or []]
    plain = [status.get(key) for key in ("mode", "policy", "policyGeneration", "target", "observedGeneration")]
    return json.dumps([plain, conditions, status.get("replicas"), status.get("recentChanges") or []], sort_keys=True)


def _turned(known: Sequence[ConditionStatus], now: Sequence[ConditionStatus]) -> list[Notice]:
    """A Warning for each condition that became bad or bad for another reason, a Normal for each that recovered."""
    before = {old["type"]: old for old in known}
    notices = []
    for condition in now:
        old = before.get(condition["type"])
        was_bad = old is not None and is_bad(old)
        if is_bad(condition) and not (old and was_bad and old["reason"] == condition["reason"]):
            notices.append(Notice(type="Warning", reason=condition["reason"], message=condition["message"]))
        elif was_bad and condition["status"] == "True":
            notices.append(Notice(type="Normal", reason=condition["reason"], message=condition["message"]))
    return notices


def _grew(change: ChangeStatus) -> bool:
    return change["after"] > change["before"]
