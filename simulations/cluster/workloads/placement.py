"""Where a pod may run: requests, filters and scores of the scheduler; pure.

The filters are those that matter to GPU serving: unschedulable nodes, taints, node selector, required
node affinity, and what is left of each resource. Scores: preferred node affinity, then the emptier node.
"""

import functools
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from simulations.cluster.api import Object

Amounts = dict[str, int]  # resource → thousandths: whole numbers add up exactly

_QUANTITY = re.compile(r"([+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)(m|k|[KMGTPE]i|[MGTPE]|)")
_SCALES = {"": Decimal(1), "m": Decimal("0.001"), "k": Decimal(10**3), "Ki": Decimal(2**10)}
for _power, _letter in enumerate("MGTPE", start=2):
    _SCALES |= {_letter: Decimal(1000**_power), f"{_letter}i": Decimal(1024**_power)}


@functools.lru_cache(maxsize=1024)  # the same few texts over and over
def thousandths(quantity: str | int | float) -> int:
    """A Kubernetes quantity, in thousandths."""
    match = _QUANTITY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is not a Kubernetes quantity")
    return int(Decimal(match[1]) * _SCALES[match[2]] * 1000)


def allocatable(node: Object) -> Amounts:
    """What the node offers to pods."""
    return {name: thousandths(value) for name, value in node.get("status", {}).get("allocatable", {}).items()}


def requests(pod: Object) -> Amounts:
    """What the pod asks for: the sum of its containers, or its largest init container; and one pod's room."""
    spec = pod["spec"]
    total: Amounts = {"pods": 1000}
    for container in spec["containers"]:
        for name, amount in _container_requests(container).items():
            total[name] = total.get(name, 0) + amount
    for container in spec.get("initContainers", ()):
        for name, amount in _container_requests(container).items():
            total[name] = max(total.get(name, 0), amount)
    return total


def _container_requests(container: Object) -> Amounts:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}  # a lone limit is a request
    return {name: thousandths(value) for name, value in asked.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """All of a pod that placement looks at."""

    requests: Amounts
    selector: Mapping[str, str]
    required: Sequence[Mapping[str, Any]]  # node selector terms; one must match
    preferred: Sequence[Mapping[str, Any]]
    tolerations: Sequence[Mapping[str, str]]

    @property
    def shape(self) -> str:
        """Pods of one shape fit or fail alike."""
        parts = (self.requests, dict(self.selector), self.required, self.preferred, self.tolerations)
        return json.dumps(parts, sort_keys=True)


def wish_of(pod: Object) -> Wish:
    """Read a pod."""
    spec = pod["spec"]
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    return Wish(
        requests=requests(pod),
        selector=spec.get("nodeSelector") or {},
        required=required.get("nodeSelectorTerms") or (),
        preferred=affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or (),
        tolerations=spec.get("tolerations") or (),
    )


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Why a pod cannot run on a node, in the scheduler's words."""

    reasons: tuple[str, ...]
    is_final: bool = True  # no pod that might leave would change it


def obstacle(wish: Wish, node: Object, free: Amounts) -> Obstacle | None:
    """What is in the way, or None. The first filter that fails speaks."""
    if node.get("spec", {}).get("unschedulable"):
        return Obstacle(("node(s) were unschedulable",))
    for taint in node.get("spec", {}).get("taints") or ():
        if taint.get("effect") != "PreferNoSchedule" and not any(_tolerates(one, taint) for one in wish.tolerations):
            return Obstacle(("node(s) had untolerated taint(s)",))
    labels = node["metadata"].get("labels", {})
    is_selected = all(labels.get(label) == value for label, value in wish.selector.items())
    if not is_selected or (wish.required and not any(_matches(term, labels) for term in wish.required)):
        return Obstacle(("node(s) didn't match Pod's node affinity/selector",))
    return _shortage(wish, node, free)


def _shortage(wish: Wish, node: Object, free: Amounts) -> Obstacle | None:
    short = [name for name, amount in wish.requests.items() if amount > free.get(name, 0)]
    if not short:
        return None
    reasons = ["Too many pods" if name == "pods" else f"Insufficient {name}" for name in short]
    offered = allocatable(node)
    return Obstacle(tuple(reasons), is_final=any(wish.requests[name] > offered.get(name, 0) for name in short))


def _tolerates(toleration: Mapping[str, str], taint: Mapping[str, str]) -> bool:
    if toleration.get("effect") not in (None, "", taint.get("effect")):
        return False
    if toleration.get("key") not in (None, "", taint["key"]):
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def _matches(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """One node selector term: all of its expressions. A term without any matches nothing."""
    expressions = term.get("matchExpressions") or ()
    return bool(expressions) and all(_holds(expression, labels) for expression in expressions)


def _holds(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value, values = labels.get(expression["key"]), list(expression.get("values") or ())
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case "Lt":
            return value is not None and int(value) < int(values[0])
        case unknown:
            raise ValueError(f"node affinity operator {unknown!r} is none of Kubernetes'")


def preference(wish: Wish, node: Object) -> int:
    """Sum of the weights of the preferred terms that match."""
    labels = node["metadata"].get("labels", {})
    return sum(term["weight"] for term in wish.preferred if _matches(term["preference"], labels))


def no_room_message(against: Sequence[Obstacle]) -> str:
    """What the real scheduler (1.36) says in the PodScheduled condition, of one obstacle per node."""
    if not against:
        return "no nodes available to schedule pods"
    reasons = Counter(reason for one in against for reason in one.reasons)
    preemption = Counter(_NOT_HELPFUL if one.is_final else _NO_VICTIMS for one in against)
    head = f"0/{len(against)} nodes are available: "
    return f"{head}{_told(reasons)}. no new claims to deallocate, preemption: {head}{_told(preemption)}."


_NOT_HELPFUL = "Preemption is not helpful for scheduling"
_NO_VICTIMS = "No preemption victims found for incoming pod"


def _told(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items()))
