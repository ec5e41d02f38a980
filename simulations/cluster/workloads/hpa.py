"""A HorizontalPodAutoscaler controller that knows the bounds and nothing else.

It has no metrics, so it keeps the current number, raised to minReplicas and cut to maxReplicas, which
is what the real one does as soon as it sees an HPA. Zero replicas mean that scaling is switched off.
"""

from typing import Any

from metrics.clock import Clock
from simulations.cluster.api import DEPLOYMENTS, HPAS, Object
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.workloads import conditions
from simulations.cluster.workloads.conditions import Verdict
from simulations.cluster.workloads.mirror import Key, Mirror, is_going, key_of
from simulations.cluster.workloads.reconciler import Reconciler


class HpaController:
    """Keeps every HPA's Deployment within the HPA's bounds."""

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self._mirror = mirror
        self._clock = clock
        self.reconciler = Reconciler("hpa", self._reconcile, clock)
        mirror.listen(HPAS, lambda before, after: self.reconciler.wake(key_of(after or before or {})))
        mirror.listen(DEPLOYMENTS, self._wake_by_target)

    def _wake_by_target(self, before: Object | None, after: Object | None) -> None:
        deployment = after or before
        for hpa in self._mirror.find(HPAS, "target", key_of(deployment)) if deployment else ():
            self.reconciler.wake(key_of(hpa))

    async def _reconcile(self, key: Key) -> None:
        hpa = self._mirror.get(HPAS, key)
        if hpa is None or is_going(hpa):
            return
        target_key = key[0], hpa["spec"]["scaleTargetRef"]["name"]
        deployment = self._mirror.get(DEPLOYMENTS, target_key)
        if deployment is None or hpa["spec"]["scaleTargetRef"]["kind"] != DEPLOYMENTS.kind:
            return
        current = deployment["spec"]["replicas"]
        desired = within_bounds(hpa["spec"], current)
        if desired != current:
            await self._mirror.patch(DEPLOYMENTS, target_key, {"spec": {"replicas": desired}}, "scale")
        await self._write_status(hpa, current, desired)

    async def _write_status(self, hpa: Object, current: int, desired: int) -> None:
        before = hpa.get("status", {})
        verdict = (
            Verdict(type="ScalingActive", status="True", reason="ValidMetricFound")
            if current
            else Verdict(type="ScalingActive", status="False", reason="ScalingDisabled")
        )
        after: dict[str, Any] = {
            "currentReplicas": current,
            "desiredReplicas": desired,
            "conditions": conditions.rewritten(before.get("conditions", []), [verdict], timestamp(self._clock.now_s())),
        }
        if any(before.get(name) != value for name, value in after.items()):
            await self._mirror.patch(HPAS, key_of(hpa), {"status": after}, "status")


def within_bounds(spec: Object, replicas: int) -> int:
    """The number an HPA without metrics settles on."""
    if replicas == 0:
        return 0
    return min(max(replicas, int(spec.get("minReplicas", 1))), int(spec["maxReplicas"]))


def by_target(hpa: Object) -> list[object]:
    """Index: the key of the workload it scales."""
    return [(key_of(hpa)[0], hpa["spec"]["scaleTargetRef"]["name"])]
