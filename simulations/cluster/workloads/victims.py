"""Which pods a shrinking replica set gives up first: pure, in the order of the real controller.

The order is `ActivePodsWithRanks.Less` of k8s.io/kubernetes/pkg/controller/controller_utils.go, with
its LogarithmicScaleDown feature (on by default since 1.22).
"""

import math
from collections.abc import Mapping, Sequence
from functools import cmp_to_key

from simulations.cluster.api import Object
from simulations.cluster.apiserver.metadata import unix_s
from simulations.cluster.workloads.pods import deletion_cost, is_ready, node_of, ready_since_s, restarts_of

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


def victims(pods: Sequence[Object], count: int, *, crowds: Mapping[str, int], now_s: float) -> list[Object]:
    """The `count` pods that go first. `crowds` says how many related pods each node runs."""

    def compare(one: Object, other: Object) -> int:
        first, second = _rank(one, crowds), _rank(other, crowds)
        return -1 if first < second else 1 if second < first else _compare_ages(one, other, now_s)

    return sorted(pods, key=cmp_to_key(compare))[:count]


def _rank(pod: Object, crowds: Mapping[str, int]) -> tuple[bool, int, bool, int, int]:
    node = node_of(pod)
    phase = _PHASES.get(pod.get("status", {}).get("phase", "Pending"), 0)
    return bool(node), phase, is_ready(pod), deletion_cost(pod), -crowds.get(node, 0)


def _compare_ages(one: Object, other: Object, now_s: float) -> int:
    """Ready for less time first, then more restarts first, then younger first."""
    ready_one, ready_other = ready_since_s(one), ready_since_s(other)
    if ready_one is not None and ready_other is not None and ready_one != ready_other:
        return _younger_first(one, other, ready_one - ready_other, (now_s - ready_one, now_s - ready_other))
    restarts_one, restarts_other = restarts_of(one), restarts_of(other)
    if restarts_one != restarts_other:
        return restarts_other - restarts_one
    born_one, born_other = (unix_s(pod["metadata"]["creationTimestamp"]) for pod in (one, other))
    return _younger_first(one, other, born_one - born_other, (now_s - born_one, now_s - born_other))


def _younger_first(one: Object, other: Object, difference_s: float, ages_s: tuple[float, float]) -> int:
    """By powers of two of the age; within one power by uid, so that equals go in no order of theirs."""
    if difference_s == 0:
        return 0
    first, second = (math.floor(math.log2(age_s * 1e9)) if age_s > 0 else -1 for age_s in ages_s)
    if first != second:
        return first - second
    return -1 if one["metadata"]["uid"] < other["metadata"]["uid"] else 1
