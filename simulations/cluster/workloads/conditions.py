"""Conditions of Kubernetes objects: pure reading and rewriting of the `conditions` lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simulations.cluster.api import Object

Condition = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What one condition shall say."""

    type: str
    status: str  # True | False | Unknown
    reason: str = ""
    message: str = ""


def find(conditions: Sequence[Condition], type_: str) -> Condition | None:
    """The condition of a type."""
    return next((condition for condition in conditions if condition["type"] == type_), None)


def of(obj: Object, type_: str) -> Condition | None:
    """The condition of a type in an object's status."""
    return find(obj.get("status", {}).get("conditions") or [], type_)


def holds(obj: Object, type_: str) -> bool:
    """Whether the object's condition is True."""
    condition = of(obj, type_)
    return condition is not None and condition["status"] == "True"


def rewritten(conditions: Sequence[Condition], verdicts: Sequence[Verdict], now: str) -> list[Condition]:
    """The conditions with these verdicts in place; times move only when a status flips."""
    result = {condition["type"]: dict(condition) for condition in conditions}
    for verdict in verdicts:
        old = result.get(verdict.type, {})
        is_flip = old.get("status") != verdict.status
        new = {"type": verdict.type, "status": verdict.status}
        new["lastTransitionTime"] = now if is_flip else old.get("lastTransitionTime", now)
        if "lastUpdateTime" in old:
            new["lastUpdateTime"] = old["lastUpdateTime"]
        if verdict.reason:
            new["reason"] = verdict.reason
        if verdict.message:
            new["message"] = verdict.message
        result[verdict.type] = new
    return list(result.values())
