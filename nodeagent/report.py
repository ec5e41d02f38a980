"""What the agent says: NodeModelCache.status, and KServe's LocalModelNode.status in companion mode. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from cacheops.budget import Room
from cacheops.config import MODELS_MAX
from nodeagent.wishes import LocalModel

PROGRESS_RATIO, PROGRESS_S = 0.05, 30.0  # at most 20 writes for a download, and at most two a minute
HEARTBEAT_S = 60.0
MESSAGE_CHARS = 300

Object = dict[str, Any]


class Phase(StrEnum):
    """How far a model is on this node."""

    PENDING = "Pending"
    FETCHING = "Fetching"
    READY = "Ready"
    FAILED = "Failed"
    EVICTING = "Evicting"
    IDLE = "Idle"  # here, and not wanted


# KServe's enum; anything else is refused by its CRD.
KSERVE_STATES = {
    Phase.PENDING: "ModelDownloadPending",
    Phase.FETCHING: "ModelDownloading",
    Phase.READY: "ModelDownloaded",
    Phase.IDLE: "ModelDownloaded",
    Phase.FAILED: "ModelDownloadError",
    Phase.EVICTING: "ModelDownloadPending",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFact:
    """One model as the agent knows it."""

    key: str
    phase: Phase
    digest: str = ""
    reason: str = ""
    message: str = ""
    size_bytes: int = 0
    fetched_bytes: int = 0
    bytes_per_s: float = 0.0
    fetch_s: float | None = None
    used_at_s: float | None = None
    leases: int = 0
    content_digest: str = ""
    retry_at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """Everything one pass found."""

    models: tuple[ModelFact, ...]
    room: Room
    capacity_bytes: int
    free_bytes: int
    generation: int
    agent: str
    address: str = ""  # where other agents fetch from us
    problem: str = ""  # why the NodeModelCache cannot be used; the last good one stays in force


def node_status(facts: NodeFacts, now_s: float) -> Object:
    """NodeModelCache.status; what is wanted and not there comes first where the list is cut."""
    order = [Phase.FAILED, Phase.FETCHING, Phase.PENDING, Phase.EVICTING, Phase.READY, Phase.IDLE]
    chosen = sorted(facts.models, key=lambda fact: (order.index(fact.phase), fact.key))[:MODELS_MAX]
    wanted = [fact for fact in facts.models if fact.phase not in (Phase.IDLE, Phase.EVICTING)]
    ready = sum(fact.phase is Phase.READY for fact in wanted)
    worst = next((fact for fact in chosen if fact.phase in order[:3]), None)
    reason = "InvalidSpec" if facts.problem else (worst.reason or worst.phase.value) if worst else "Ready"
    return {
        "observedGeneration": facts.generation,
        "time": rfc3339(now_s),
        "agent": facts.agent,
        "address": facts.address or None,
        "disk": {
            "capacityBytes": facts.capacity_bytes,
            "freeBytes": facts.free_bytes,
            "heldBytes": facts.room.held_bytes,
            "limitBytes": facts.room.high_bytes,
        },
        "models": [_model(fact) for fact in chosen],
        "summary": f"{ready}/{len(wanted)}",
        "reason": reason,
    }


def kserve_status(models: Sequence[LocalModel], facts: Mapping[str, ModelFact], before: Mapping[str, Any]) -> Object:
    """LocalModelNode.status as a merge patch: exactly the names of the spec, with KServe's own words."""
    states: Object = {name: None for name in before if name not in {model.name for model in models}}
    for model in models:
        fact = facts.get(model.key)
        states[model.name] = KSERVE_STATES[fact.phase if fact else Phase.PENDING]
    return {"modelStatus": states}


def is_worth_writing(status: Object, before: Object | None, *, since_s: float) -> bool:
    """At once for a change that matters, in steps for progress, and now and then as a sign of life."""
    if before is None or since_s >= HEARTBEAT_S or _vital(status) != _vital(before):
        return True
    return since_s >= PROGRESS_S and _has_progressed(status, before)


def _model(fact: ModelFact) -> Object:
    is_moving = fact.phase is Phase.FETCHING and fact.bytes_per_s > 0
    fields = {
        "key": fact.key,
        "digest": fact.digest or None,
        "phase": fact.phase.value,
        "reason": fact.reason or None,
        "message": fact.message[:MESSAGE_CHARS] or None,
        "bytes": fact.size_bytes,
        "fetchedBytes": fact.fetched_bytes,
        "bytesPerSecond": int(fact.bytes_per_s) if is_moving else None,
        "remainingSeconds": round(max(0, fact.size_bytes - fact.fetched_bytes) / fact.bytes_per_s)
        if is_moving
        else None,
        "fetchSeconds": None if fact.fetch_s is None else round(fact.fetch_s, 3),
        "lastUsed": None if fact.used_at_s is None else rfc3339(fact.used_at_s),
        "leases": fact.leases or None,
        "contentDigest": fact.content_digest or None,
        "retryAt": None if fact.retry_at_s is None else rfc3339(fact.retry_at_s),
    }
    return {name: value for name, value in fields.items() if value is not None}


def _vital(status: Object) -> object:
    models = [(m["key"], m["phase"], m.get("reason"), m.get("digest"), bool(m.get("leases"))) for m in status["models"]]
    return [status["observedGeneration"], status["agent"], status["address"], status["reason"], sorted(models, key=str)]


def _has_progressed(status: Object, before: Object) -> bool:
    shares = {m["key"]: m.get("fetchedBytes", 0) for m in before["models"]}
    return any(
        abs(m["fetchedBytes"] - shares.get(m["key"], 0)) >= PROGRESS_RATIO * max(1, m["bytes"])
        for m in status["models"]
    )


def rfc3339(at_s: float) -> str:
    """A time as Kubernetes writes it."""
    return datetime.fromtimestamp(int(at_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
