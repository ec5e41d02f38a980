"""What became of a ModelCache, as its status says it, and the Events that a change is worth."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from autoscaler.caching.resolve import Failed
from autoscaler.caching.values import NodeSeen, Phase, Resolved, TreeSeen
from autoscaler.caching.views import CacheView
from autoscaler.conditions import Condition
from autoscaler.status_changes import Notice
from autoscaler.timestamps import duration, rfc3339
from cacheops.place import Assignment, Shortfall
from cacheops.status import ModelCacheStatus, PlaceStatus

# A list that stays far below an object's 1.5 MiB; the counts are of all nodes.
PLACES_MAX = 256
# Progress is told in these steps: each is a write, for every node that fetches.
PERCENT_STEP = 5
MESSAGE_CHARS = 400

_GONE = TreeSeen(key="", phase=Phase.PENDING, reason="NotHeard")
_UNITS = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheReport:
    """Everything there is to say about one ModelCache."""

    view: CacheView
    resolved: Resolved | None  # in force, an older one while a newer request fails
    failure: Failed | None = None
    decided_by: str = ""  # the older ModelCache of the same source that names other bytes
    assignments: Sequence[Assignment] = ()
    shortfall: Shortfall | None = None
    is_expired: bool = False
    nodes: Mapping[str, NodeSeen] = field(default_factory=dict)
    labels: Condition | None = None  # None: nobody needs them
    volume: Condition | None = None  # None: no volume is asked for


def render(report: CacheReport, previous: Mapping[str, Any], now_s: float) -> ModelCacheStatus:
    """The status; what did not change keeps its times."""
    places = [_place(assignment, report, now_s) for assignment in report.assignments]
    counts = _counts(places)
    conditions = [_ready(report, places), _resolved(report), *filter(None, (report.volume, report.labels))]
    worst = next((one for one in conditions if one.status == "False" and one is not report.labels), conditions[0])
    status: dict[str, Any] = {
        "observedGeneration": report.view.meta.generation,
        "nodes": counts,
        "places": places[:PLACES_MAX],
        "reason": worst.reason,
        "summary": f"{counts['ready']}/{counts['wanted']}",
        "conditions": _dated(conditions, previous, report.view.meta.generation, now_s),
    }
    if report.resolved is not None:
        status["resolved"] = _resolved_status(report.resolved)
        status["size"] = _size(report.resolved.size_bytes)
    if report.failure is not None:
        status["retryAt"] = rfc3339(report.failure.retry_at_s)
    if report.volume is not None and report.volume.status == "True":
        status["claim"] = report.view.meta.name
    return cast("ModelCacheStatus", status)


def events_for(previous: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[Notice, ...]:
    """Conditions that turned: bad ones as warnings, and those that became good again or for the first time."""
    before = {one["type"]: one for one in previous.get("conditions") or ()}
    found = []
    for one in status["conditions"]:
        old = before.get(one["type"]) or {}
        if (old.get("status"), old.get("reason")) == (one["status"], one["reason"]):
            continue
        if one["status"] == "False":
            kind = "Normal" if one["reason"] in _ON_THE_WAY else "Warning"
            found.append(Notice(type=kind, reason=one["reason"], message=one["message"]))
        elif one["status"] == "True":
            found.append(Notice(type="Normal", reason=one["reason"], message=one["message"]))
    return tuple(found)


_ON_THE_WAY = frozenset({"Fetching", "Resolving", "LabelsOff"})


def _resolved(report: CacheReport) -> Condition:
    resolved, failure = report.resolved, report.failure
    if report.view.task is None:
        return _condition("Resolved", False, "InvalidSpec", report.view.problem)
    if failure is not None:
        old = f"; {resolved.revision or resolved.digest} stays in force" if resolved else ""
        again = f"; tried {failure.attempts} times, next at {rfc3339(failure.retry_at_s)}"
        return _condition("Resolved", False, failure.reason.value, failure.message + again + old)
    if resolved is None or resolved.request != report.view.request:
        return _condition("Resolved", False, "Resolving", "the source is being asked")
    trust = f", {resolved.unsworn} of them on trust" if resolved.unsworn else ""
    where = f"revision {resolved.revision}" if resolved.revision else f"digest {resolved.digest[:16]}"
    return _condition("Resolved", True, "Resolved", f"{where}: {resolved.files} files{trust}")


def _ready(report: CacheReport, places: Sequence[PlaceStatus]) -> Condition:
    """Whether every node that should hold it does."""
    if report.view.task is None:
        return _condition("Ready", False, "InvalidSpec", report.view.problem)
    if report.decided_by:
        words = f"ModelCache {report.decided_by} is older and names other bytes: one folder holds one revision"
        return _condition("Ready", False, "DecidedElsewhere", words)
    if report.resolved is None:
        reason = report.failure.reason.value if report.failure else "Resolving"
        return _condition("Ready", False, reason, "nothing can be placed before the source is resolved")
    missing = report.shortfall
    if missing is not None and missing.copies:
        words = f"{missing.copies} copies of spec.places.min have no node: {missing.detail}"
        return _condition("Ready", False, missing.lack.value, words)
    return _held(report, places)


def _held(report: CacheReport, places: Sequence[PlaceStatus]) -> Condition:
    if report.is_expired:
        return _condition("Ready", True, "Expired", "not used within spec.ttlSeconds: its nodes give it up")
    if not places:
        lack = f" ({report.shortfall.lack.value}: {report.shortfall.detail})" if report.shortfall else ""
        return _condition("Ready", True, "NotNeeded", f"no node has to hold it now{lack}")
    late = [place for place in places if place["phase"] != Phase.READY]
    if not late:
        return _condition("Ready", True, "Ready", f"{len(places)} of {len(places)} nodes hold it, verified")
    worst = min(late, key=lambda place: (place["phase"] != Phase.FAILED, place["node"]))
    reason = worst["reason"] if worst["phase"] == Phase.FAILED else "Fetching"
    words = f"{len(places) - len(late)} of {len(places)} nodes hold it; node {worst['node']}: {worst['phase']}"
    return _condition("Ready", False, reason, words + _details(report, worst["node"]))


def _details(report: CacheReport, name: str) -> str:
    tree = _tree(report, name)
    told = f": {tree.message}" if tree.message else ""
    return told + (f", {duration(tree.remaining_s)} to go" if tree.remaining_s is not None else "")


def _place(assignment: Assignment, report: CacheReport, now_s: float) -> PlaceStatus:
    node = report.nodes.get(assignment.node)
    tree = _tree(report, assignment.node)
    order = node.order if node else None
    if order is None or not order.is_heard(now_s):
        tree = replace(tree, phase=Phase.PENDING, reason="AgentSilent")
    phase = Phase.READY if tree.phase == Phase.IDLE else tree.phase  # it was asked for again a moment ago
    reason = assignment.cause.value if phase == Phase.READY else tree.reason or phase
    size_bytes = report.resolved.size_bytes if report.resolved else 0
    share = 1.0 if phase == Phase.READY else tree.fetched_bytes / max(1, size_bytes)
    percent = int(100 * min(1.0, share)) // PERCENT_STEP * PERCENT_STEP
    return {"node": assignment.node, "phase": phase, "reason": reason, "percent": percent}


def _tree(report: CacheReport, name: str) -> TreeSeen:
    """What a node says about the revision in force; what it says about another one is no news."""
    node = report.nodes.get(name)
    key = report.view.task.ref.storage_key if report.view.task else ""
    tree = node.order.trees.get(key) if node and node.order else None
    if tree is None or report.resolved is None or tree.digest not in ("", report.resolved.digest):
        return _GONE
    return tree


def _counts(places: Sequence[PlaceStatus]) -> dict[str, int]:
    phases = [place["phase"] for place in places]
    return {
        "wanted": len(phases),
        "ready": phases.count(Phase.READY),
        "fetching": phases.count(Phase.FETCHING),
        "failed": phases.count(Phase.FAILED),
    }


def _resolved_status(resolved: Resolved) -> dict[str, Any]:
    content = {"contentDigest": resolved.content_digest} if resolved.content_digest else {}
    return content | {
        "request": resolved.request,
        "revision": resolved.revision,
        "digest": resolved.digest,
        "files": resolved.files,
        "bytes": resolved.size_bytes,
        "unsworn": resolved.unsworn,
        "time": rfc3339(resolved.at_s),
    }


def _dated(
    conditions: Sequence[Condition], previous: Mapping[str, Any], generation: int, now_s: float
) -> list[dict[str, Any]]:
    before = {one["type"]: one for one in previous.get("conditions") or ()}
    return [
        {
            "type": one.type,
            "status": one.status,
            "reason": one.reason,
            "message": one.message,
            "lastTransitionTime": before[one.type]["lastTransitionTime"]
            if one.type in before and before[one.type].get("status") == one.status
            else rfc3339(now_s),
            "observedGeneration": generation,
        }
        for one in conditions
    ]


def _condition(kind: str, is_true: bool, reason: str, message: str) -> Condition:
    shown = message if len(message) <= MESSAGE_CHARS else message[: MESSAGE_CHARS - 1] + "…"
    return Condition(type=kind, status=str(is_true), reason=reason, message=shown)


def _size(count_bytes: int) -> str:
    for unit, name in _UNITS:
        if count_bytes >= unit:
            return f"{count_bytes / unit:.1f} {name}"
    return f"{count_bytes} B"
