"""Status of a Deployment: counts and the conditions Available and Progressing; pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.apiserver.metadata import unix_s
from simulations.cluster.workloads import conditions, rollout
from simulations.cluster.workloads.conditions import Condition, Verdict

_COMPLETE = "NewReplicaSetAvailable"
_TIMED_OUT = "ProgressDeadlineExceeded"
_COUNTS = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")


def next_status(deployment: Object, new: Object | None, old: Sequence[Object], *, now: str) -> Mapping[str, Any]:
    """The whole status, from the replica sets."""
    status: dict[str, Any] = {"observedGeneration": deployment["metadata"]["generation"]}
    status |= {name: count for name, count in _counts(deployment, new, old).items() if count}  # zero is left out
    before = deployment.get("status", {})
    verdicts = [_available(deployment, status), *_progressing(deployment, status, new, now)]
    verdicts += _failure([*old, *([new] if new else [])])
    kept = [item for item in before.get("conditions", []) if item["type"] != "ReplicaFailure"]
    rewritten = conditions.rewritten(kept, verdicts, now)
    status["conditions"] = [_stamped(item, before.get("conditions", []), now) for item in rewritten]
    if _has_moved(before, status):
        for item in status["conditions"]:
            if item["type"] == "Progressing":
                item["lastUpdateTime"] = now
    return status


def deadline_in_s(deployment: Object | None, now_s: float) -> float | None:
    """When time alone would turn Progressing to False."""
    condition = conditions.of(deployment, "Progressing") if deployment else None
    if deployment is None or condition is None or condition.get("reason") in (_COMPLETE, _TIMED_OUT):
        return None
    limit_s = float(deployment["spec"].get("progressDeadlineSeconds", 600))
    return max(1.0, unix_s(condition["lastUpdateTime"]) + limit_s + 1.0 - now_s)


def _counts(deployment: Object, new: Object | None, old: Sequence[Object]) -> dict[str, int]:
    everything = [*old, *([new] if new else [])]
    available = _sum(everything, "availableReplicas")
    wanted = sum(item["spec"]["replicas"] for item in everything)
    return {
        "replicas": _sum(everything, "replicas"),
        "updatedReplicas": _sum([new] if new else [], "replicas"),
        "readyReplicas": _sum(everything, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(0, max(wanted, deployment["spec"]["replicas"]) - available),
    }


def _sum(replica_sets: Sequence[Object], name: str) -> int:
    return sum(item.get("status", {}).get(name, 0) for item in replica_sets)


def _available(deployment: Object, status: Mapping[str, Any]) -> Verdict:
    desired = deployment["spec"]["replicas"]
    least = desired - rollout.bounds(deployment["spec"], desired).unavailable
    if status.get("availableReplicas", 0) >= least:
        message = "Deployment has minimum availability."
        return Verdict(type="Available", status="True", reason="MinimumReplicasAvailable", message=message)
    message = "Deployment does not have minimum availability."
    return Verdict(type="Available", status="False", reason="MinimumReplicasUnavailable", message=message)


def _progressing(deployment: Object, status: Mapping[str, Any], new: Object | None, now: str) -> list[Verdict]:
    if new is None:
        return []
    name = new["metadata"]["name"]
    desired = deployment["spec"]["replicas"]
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas")]
    before = conditions.of(deployment, "Progressing")
    if counts == [desired] * 3:
        message = f'ReplicaSet "{name}" has successfully progressed.'
        return [Verdict(type="Progressing", status="True", reason=_COMPLETE, message=message)]
    if before and before.get("reason") == _COMPLETE and status.get("replicas") == status.get("updatedReplicas"):
        return [_same(before)]  # complete and scaled since: the real controller estimates no progress then
    if before and not _has_moved(deployment.get("status", {}), status) and _is_late(deployment, before, now):
        message = f'ReplicaSet "{name}" has timed out progressing.'
        return [Verdict(type="Progressing", status="False", reason=_TIMED_OUT, message=message)]
    if before is None:
        message = f'Created new replica set "{name}"'
        return [Verdict(type="Progressing", status="True", reason="NewReplicaSetCreated", message=message)]
    if before.get("reason") == _TIMED_OUT and not _has_moved(deployment.get("status", {}), status):
        return [_same(before)]
    message = f'ReplicaSet "{name}" is progressing.'
    return [Verdict(type="Progressing", status="True", reason="ReplicaSetUpdated", message=message)]


def _same(condition: Condition) -> Verdict:
    return Verdict(
        type=condition["type"],
        status=condition["status"],
        reason=condition.get("reason", ""),
        message=condition.get("message", ""),
    )


def _is_late(deployment: Object, progressing: Condition, now: str) -> bool:
    limit_s = deployment["spec"].get("progressDeadlineSeconds", 600)
    return unix_s(now) - unix_s(progressing["lastUpdateTime"]) >= float(limit_s)


def _has_moved(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Progress, as the real controller counts it: any of the counts changed."""
    return any(before.get(name, 0) != after.get(name, 0) for name in _COUNTS)


def _failure(replica_sets: Sequence[Object]) -> list[Verdict]:
    """A replica set that cannot create its pods says so on the Deployment."""
    for item in replica_sets:
        condition = conditions.of(item, "ReplicaFailure")
        if condition is not None:
            return [_same(condition)]
    return []


def _stamped(condition: Condition, before: Sequence[Condition], now: str) -> Condition:
    """Deployments have a lastUpdateTime: it moves when status or reason do."""
    old = conditions.find(before, condition["type"])
    is_same = old is not None and (old["status"], old.get("reason")) == (condition["status"], condition.get("reason"))
    return {**condition, "lastUpdateTime": old["lastUpdateTime"] if is_same and old else now}
