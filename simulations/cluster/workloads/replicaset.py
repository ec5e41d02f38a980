"""The ReplicaSet controller: as many pods as asked for, the right victims, status."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from metrics.clock import Clock
from simulations.cluster.api import PODS, REPLICA_SETS, ApiError, Object
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.workloads import conditions
from simulations.cluster.workloads.conditions import Verdict
from simulations.cluster.workloads.deployment import controller_reference
from simulations.cluster.workloads.mirror import Key, Mirror, is_going, key_of, owner_of
from simulations.cluster.workloads.pods import is_active, is_ready, node_of, ready_since_s
from simulations.cluster.workloads.reconciler import Reconciler
from simulations.cluster.workloads.victims import victims

BURST_PODS = 500  # per pass; BurstReplicas of the real controller
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX_LENGTH = 5
_NAME_ROOM = 63 - 1 - _SUFFIX_LENGTH  # maxGeneratedNameLength: a pod's name is its host name


class ReplicaSetController:
    """Reconciles every ReplicaSet it sees."""

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self._mirror = mirror
        self._clock = clock
        self._names = random.Random(1)  # seeded: two runs name their pods alike
        self.reconciler = Reconciler("replica set", self._reconcile, clock)
        mirror.listen(REPLICA_SETS, lambda before, after: self.reconciler.wake(key_of(after or before or {})))
        mirror.listen(PODS, self._wake_owner)

    def _wake_owner(self, before: Object | None, after: Object | None) -> None:
        pod = after or before
        for reference in pod["metadata"].get("ownerReferences", ()) if pod else ():
            if reference["kind"] == "ReplicaSet" and pod is not None:
                self.reconciler.wake((key_of(pod)[0], reference["name"]))

    async def _reconcile(self, key: Key) -> float | None:
        replica_set = self._mirror.get(REPLICA_SETS, key)
        if replica_set is None or is_going(replica_set):
            return None
        problem = await self._bring_to_size(replica_set)
        replica_set = self._mirror.get(REPLICA_SETS, key)
        if replica_set is None:
            return None
        again_s = await self._write_status(replica_set, problem)
        if problem is not None:
            raise problem
        return again_s

    def _active(self, replica_set: Object) -> list[Object]:
        owned = self._mirror.find(PODS, "owner", replica_set["metadata"]["uid"])
        return [pod for pod in owned if is_active(pod)]

    async def _bring_to_size(self, replica_set: Object) -> ApiError | None:
        """Create or delete; a refusal of the API is returned, for the status to tell."""
        active = self._active(replica_set)
        missing = replica_set["spec"]["replicas"] - len(active)
        try:
            for _ in range(min(missing, BURST_PODS)):
                await self._mirror.create(PODS, self._pod_for(replica_set))
        except ApiError as error:
            return error
        if missing < 0:
            crowds = self._crowds(replica_set)
            doomed = victims(active, min(-missing, BURST_PODS), crowds=crowds, now_s=self._clock.now_s())
            for pod in doomed:
                await self._mirror.delete(PODS, pod)
        return None

    def _pod_for(self, replica_set: Object) -> Object:
        template = replica_set["spec"]["template"]
        prefix = replica_set["metadata"]["name"][:_NAME_ROOM] + "-"
        suffix = "".join(self._names.choices(_SUFFIX_LETTERS, k=_SUFFIX_LENGTH))
        metadata = template.get("metadata", {})
        return {
            "apiVersion": PODS.api_version,
            "kind": PODS.kind,
            "metadata": {
                **{name: dict(metadata[name]) for name in ("labels", "annotations") if metadata.get(name)},
                "name": prefix + suffix,
                "generateName": prefix,
                "namespace": replica_set["metadata"]["namespace"],
                "ownerReferences": [controller_reference(replica_set)],
            },
            "spec": template["spec"],
        }

    def _crowds(self, replica_set: Object) -> Mapping[str, int]:
        """How many pods of the same Deployment each node runs."""
        owner = owner_of(replica_set)
        related = self._mirror.find(REPLICA_SETS, "owner", owner) if owner else [replica_set]
        return Counter(node_of(pod) for item in related for pod in self._active(item) if node_of(pod))

    async def _write_status(self, replica_set: Object, problem: ApiError | None) -> float | None:
        active = self._active(replica_set)
        ages = [self._clock.now_s() - since_s for pod in active if (since_s := ready_since_s(pod)) is not None]
        patience_s = replica_set["spec"].get("minReadySeconds", 0)
        waiting = [patience_s - age_s for age_s in ages if age_s < patience_s]
        before = replica_set.get("status", {})
        after: dict[str, Any] = {
            "observedGeneration": replica_set["metadata"]["generation"],
            "replicas": len(active),
            "fullyLabeledReplicas": len(active),
            "readyReplicas": sum(map(is_ready, active)),
            "availableReplicas": len(ages) - len(waiting),
            "conditions": self._conditions(before.get("conditions", []), problem),
        }
        changed = {name: value for name, value in after.items() if before.get(name, _EMPTY.get(name)) != value}
        if changed:
            await self._mirror.patch(REPLICA_SETS, key_of(replica_set), {"status": changed}, "status")
        return min(waiting) if waiting else None

    def _conditions(self, before: Sequence[Object], problem: ApiError | None) -> list[Object]:
        if problem is None:
            return [condition for condition in before if condition["type"] != "ReplicaFailure"]
        verdict = Verdict(type="ReplicaFailure", status="True", reason="FailedCreate", message=problem.message)
        return conditions.rewritten(before, [verdict], timestamp(self._clock.now_s()))


_EMPTY: Mapping[str, Any] = {"conditions": []}
