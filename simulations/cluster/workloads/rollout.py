"""Roll-out arithmetic of a Deployment: pure, as in k8s.io/kubernetes/pkg/controller/deployment/rolling.go.

One simplification: a Deployment that is scaled in the middle of a roll-out does not spread the change
over its replica sets in proportion; the roll-out itself brings it there within the same two bounds.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulations.cluster.api import Object

_HASH_LETTERS = "bcdfghjklmnpqrstvwxz2456789"  # the real controller's SafeEncodeString: no accidental words
_HASH_LENGTH = 10


def template_hash(template: Object) -> str:
    """The pod-template-hash: equal templates, equal hashes, whatever the order of their keys."""
    canonical = json.dumps(template, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.sha256(canonical).digest()
    return "".join(_HASH_LETTERS[byte % len(_HASH_LETTERS)] for byte in digest[:_HASH_LENGTH])


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far a roll-out may stray from the desired number, in pods."""

    surge: int
    unavailable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One replica set, as a roll-out sees it."""

    name: str
    replicas: int  # asked for
    available: int


def bounds(spec: Object, desired: int) -> Bounds:
    """maxSurge rounded up and maxUnavailable rounded down; both zero would never move, so one may be missing."""
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    surge = _resolve(rolling.get("maxSurge", "25%"), desired, up=True)
    unavailable = _resolve(rolling.get("maxUnavailable", "25%"), desired, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return Bounds(surge=surge, unavailable=min(unavailable, desired))


def _resolve(value: int | str, whole: int, *, up: bool) -> int:
    if isinstance(value, int):
        return value
    share = int(value.removesuffix("%")) * whole / 100
    return math.ceil(share) if up else math.floor(share)


def rolling_sizes(desired: int, limits: Bounds, new: Generation, old: Sequence[Generation]) -> Mapping[str, int]:
    """Next size of each replica set; `old` is ordered oldest first."""
    sizes = {generation.name: generation.replicas for generation in (new, *old)}
    if new.replicas > desired:
        sizes[new.name] = desired
    else:
        room = desired + limits.surge - sum(sizes.values())
        sizes[new.name] += max(0, min(room, desired - new.replicas))
    _shrink_old(sizes, desired - limits.unavailable, new, old)
    return sizes


def _shrink_old(sizes: dict[str, int], least_available: int, new: Generation, old: Sequence[Generation]) -> None:
    not_yet_available = max(0, sizes[new.name] - new.available)
    budget = sum(sizes.values()) - least_available - not_yet_available
    for generation in old:  # pods that serve nobody go first
        broken = min(budget, sizes[generation.name] - generation.available)
        if broken > 0:
            sizes[generation.name] -= broken
            budget -= broken
    if budget <= 0:
        return
    spare = sum(generation.available for generation in (new, *old)) - least_available
    for generation in old:
        fewer = min(max(0, spare), sizes[generation.name])
        sizes[generation.name] -= fewer
        spare -= fewer


def recreate_sizes(desired: int, new: Generation, old: Sequence[Generation], *, old_pods: int) -> Mapping[str, int]:
    """All old pods go before the first new one comes."""
    sizes = {generation.name: 0 for generation in old}
    sizes[new.name] = desired if old_pods == 0 else new.replicas
    return sizes


def paused_sizes(desired: int, new: Generation | None, old: Sequence[Generation]) -> Mapping[str, int]:
    """A paused roll-out still scales: whichever replica set is active alone, else the newest there is."""
    existing = [*old, *([new] if new else [])]
    sizes = {generation.name: generation.replicas for generation in existing}
    active = [generation for generation in existing if generation.replicas > 0]
    if existing and len(active) <= 1:
        sizes[(active or existing[-1:])[0].name] = desired
    return sizes
