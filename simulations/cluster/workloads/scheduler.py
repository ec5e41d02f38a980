"""The scheduler: binds pending pods to nodes with room, and says why when there is none.

One pass looks at all pending pods, first come first served within a priority. A pass follows every
change that may matter: a new pod, a pod gone, a node changed. Free amounts are kept by adding and
subtracting, so a pass costs pending pods × nodes and not all pods.
"""

from collections import Counter

from metrics.clock import Clock
from simulations.cluster.api import NODES, PODS, ApiError, Object
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.workloads import conditions
from simulations.cluster.workloads.conditions import Verdict
from simulations.cluster.workloads.mirror import Key, Mirror, is_going, key_of
from simulations.cluster.workloads.placement import (
    Amounts,
    Obstacle,
    Wish,
    allocatable,
    no_room_message,
    obstacle,
    preference,
    requests,
    wish_of,
)
from simulations.cluster.workloads.pods import is_over, node_of
from simulations.cluster.workloads.reconciler import Reconciler

_PASS: Key = ("", "pending pods")


class Ledger:
    """What is free on each node: what it offers less what the pods bound to it ask for."""

    def __init__(self, mirror: Mirror) -> None:
        self._used: dict[str, Counter[str]] = {}
        mirror.listen(PODS, self._note)

    def _note(self, before: Object | None, after: Object | None) -> None:
        taken_before, taken_after = _takes(before), _takes(after)
        if taken_before == taken_after:
            return
        if before is not None and taken_before:
            self._used[taken_before].subtract(requests(before))
        if after is not None and taken_after:
            self._used.setdefault(taken_after, Counter()).update(requests(after))

    def free(self, node: Object) -> Amounts:
        """Amounts left on a node."""
        offered, used = allocatable(node), self._used.get(node["metadata"]["name"])
        return {name: amount - used[name] for name, amount in offered.items()} if used else offered


def _takes(pod: Object | None) -> str:
    """The node whose room this pod takes, or an empty name. A going pod keeps it until it is gone."""
    return "" if pod is None or is_over(pod) else node_of(pod)


class Scheduler:
    """Places pods that no node runs yet."""

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self._mirror = mirror
        self._clock = clock
        self._arrivals: dict[Key, int] = {}  # of pods that wait; creation times have whole seconds only
        self._arrived = 0
        self._ledger = Ledger(mirror)  # listens first: a pass must see what has just been freed
        self.reconciler = Reconciler("scheduling", self._schedule, clock)
        mirror.listen(PODS, self._wake_by_pod)
        mirror.listen(NODES, lambda _before, _after: self.reconciler.wake(_PASS))

    def _wake_by_pod(self, before: Object | None, after: Object | None) -> None:
        self._note_arrival(before, after)
        is_freed = _takes(before) and not _takes(after)
        is_waiting = after is not None and not node_of(after) and not is_over(after) and before is None
        is_ungated = before is not None and after is not None and _is_gated(before) and not _is_gated(after)
        if is_freed or is_waiting or is_ungated:
            self.reconciler.wake(_PASS)

    def _note_arrival(self, before: Object | None, after: Object | None) -> None:
        if after is not None and not node_of(after):
            self._arrived += 1
            self._arrivals.setdefault(key_of(after), self._arrived)
        elif pod := before or after:
            self._arrivals.pop(key_of(pod), None)

    def _turn(self, pod: Object) -> tuple[int, int]:
        return -pod["spec"].get("priority", 0), self._arrivals[key_of(pod)]

    async def _schedule(self, _key: Key) -> None:
        pending = [pod for pod in self._mirror.find(PODS, "node", "") if not is_over(pod) and not is_going(pod)]
        hopeless: dict[str, str] = {}  # shape → message; what did not fit does not fit again in this pass
        for pod in sorted(pending, key=self._turn):
            if _is_gated(pod):
                await self._say(pod, "SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates")
                continue
            node, message = self._place(pod, hopeless)
            if node is not None:
                await self._bind(pod, node)
            else:
                await self._say(pod, "Unschedulable", message)

    def _place(self, pod: Object, hopeless: dict[str, str]) -> tuple[str | None, str]:
        """A node for the pod, or why there is none."""
        try:
            wish = wish_of(pod)
            if wish.shape in hopeless:
                return None, hopeless[wish.shape]
            node, message = self._choose(wish)
        except ValueError as error:  # the real API server would not have taken this pod
            return None, f"pod {pod['metadata']['name']}: {error}"
        if node is None:
            hopeless[wish.shape] = message
        return node, message

    def _choose(self, wish: Wish) -> tuple[str | None, str]:
        """The best node, or why there is none."""
        against: list[Obstacle] = []
        best: tuple[tuple[float, ...], str] | None = None
        for node in self._mirror.all(NODES):
            free = self._ledger.free(node)
            found = obstacle(wish, node, free)
            if found is not None:
                against.append(found)
                continue
            rank = (-preference(wish, node), *_fullness(wish, node, free)), node["metadata"]["name"]
            best = min(best, rank) if best else rank
        return (best[1], "") if best else (None, no_room_message(against))

    async def _bind(self, pod: Object, node: str) -> None:
        """Bind; a pod that is gone or was bound meanwhile is no longer ours."""
        try:
            await self._mirror.patch(PODS, key_of(pod), {"spec": {"nodeName": node}})
        except ApiError as error:
            if error.code != 404:
                raise

    async def _say(self, pod: Object, reason: str, message: str) -> None:
        old = conditions.of(pod, "PodScheduled") or {}
        if (old.get("status"), old.get("reason"), old.get("message")) == ("False", reason, message):
            return
        verdict = Verdict(type="PodScheduled", status="False", reason=reason, message=message)
        before = pod.get("status", {}).get("conditions", [])
        after = conditions.rewritten(before, [verdict], timestamp(self._clock.now_s()))
        await self._mirror.patch(PODS, key_of(pod), {"status": {"phase": "Pending", "conditions": after}}, "status")


def _is_gated(pod: Object) -> bool:
    return bool(pod["spec"].get("schedulingGates"))


def _fullness(wish: Wish, node: Object, free: Amounts) -> tuple[float, ...]:
    """The share already taken of what the pod asks for: the emptier node is better."""
    offered = allocatable(node)
    shares = [1 - free[name] / offered[name] for name in wish.requests if offered.get(name)]
    return (max(shares, default=0.0),)
