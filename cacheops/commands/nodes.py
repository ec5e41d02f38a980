"""A NodeModelCache as the commands read it: what its agent said, and the plan that follows from it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cacheops.budget import Disk
from cacheops.commands.output import size
from cacheops.config import NodeTask, parse_node_model_cache
from cacheops.errors import InvalidRequestError
from cacheops.plan import Limits, Plan, plan
from cacheops.stock import HeldTree, Inventory, Partial

Object = dict[str, Any]

HELD_PHASES = frozenset({"Ready", "Idle", "Evicting"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """One model on one node."""

    key: str
    name: str  # its URI where the spec names it, else its key
    digest: str
    phase: str
    reason: str
    message: str
    size_bytes: int
    there_bytes: int
    leases: int
    used_at_s: float | None
    retry_at_s: float

    @property
    def is_ready(self) -> bool:
        """Verified and published."""
        return self.phase in HELD_PHASES

    def row(self) -> tuple[str, ...]:
        """For a table."""
        share = f"{100 * self.there_bytes // self.size_bytes}%" if self.size_bytes else "-"
        why = f"{self.reason}, mounted" if self.leases else self.reason
        return (self.key, size(self.size_bytes), self.phase, share, why or "-", self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """One node, as its agent said last."""

    name: str
    models: Sequence[ModelView]
    task: NodeTask
    capacity_bytes: int
    free_bytes: int
    held_bytes: int
    limit_bytes: int

    def name_of(self, key: str) -> str:
        """A model's URI where it is known."""
        return next((model.name for model in self.models if model.key == key), key[:16])

    def plan(self, now_s: float) -> Plan:
        """What the agent does next."""
        retry_at_s = {model.key: model.retry_at_s for model in self.models}
        wanted = [replace(wish.tree, retry_at_s=retry_at_s.get(wish.tree.key, 0.0)) for wish in self.task.wishes]
        try:
            disk = Disk(
                capacity_bytes=self.capacity_bytes,
                free_bytes=self.free_bytes,
                quota_bytes=self.task.quota_bytes,
                high_ratio=self.task.high_ratio,
                low_ratio=self.task.low_ratio,
            )
        except ValueError as exc:
            raise InvalidRequestError(f"NodeModelCache {self.name}: status.disk: {exc}") from exc
        return plan(wanted, self._inventory(), Limits(disk=disk, warm_bytes=self.task.warm_bytes), now_s=now_s)

    def _inventory(self) -> Inventory:
        trees = tuple(
            HeldTree(
                key=model.key,
                digest=model.digest,
                size_bytes=model.size_bytes,
                published_at_s=0.0,  # the status does not tell; a young tree shows as one that may go
                used_at_s=model.used_at_s,
                leases=model.leases,
            )
            for model in self.models
            if model.is_ready
        )
        partials = tuple(
            Partial(digest=model.digest, size_bytes=model.there_bytes, touched_at_s=0.0)
            for model in self.models
            if not model.is_ready and model.there_bytes
        )
        return Inventory(trees=trees, partials=partials)


def node_view(obj: Mapping[str, Any]) -> NodeView:
    """A NodeModelCache object; what its agent did not say yet is empty."""
    task = parse_node_model_cache(obj)
    uris = {wish.tree.key: wish.ref.uri for wish in task.wishes}
    status = obj.get("status") or {}
    disk = status.get("disk") or {}
    return NodeView(
        name=obj["metadata"]["name"],
        models=tuple(_model(row, uris) for row in status.get("models") or ()),
        task=task,
        capacity_bytes=int(disk.get("capacityBytes") or 0),
        free_bytes=int(disk.get("freeBytes") or 0),
        held_bytes=int(disk.get("heldBytes") or 0),
        limit_bytes=int(disk.get("limitBytes") or 0),
    )


def _model(row: Mapping[str, Any], uris: Mapping[str, str]) -> ModelView:
    return ModelView(
        key=row["key"],
        name=uris.get(row["key"], row["key"]),
        digest=row.get("digest") or "",
        phase=row.get("phase") or "Pending",
        reason=row.get("reason") or "",
        message=row.get("message") or "",
        size_bytes=int(row.get("bytes") or 0),
        there_bytes=int(row.get("fetchedBytes") or 0),
        leases=int(row.get("leases") or 0),
        used_at_s=_unix_s(row.get("lastUsed")),
        retry_at_s=_unix_s(row.get("retryAt")) or 0.0,
    )


def _unix_s(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None
