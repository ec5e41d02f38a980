"""The Deployment controller: replica sets by pod-template hash, roll-outs, revisions, status."""

from collections.abc import Mapping, Sequence
from typing import Any

from metrics.clock import Clock
from simulations.cluster.api import DEPLOYMENTS, PODS, REPLICA_SETS, Object
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.workloads import rollout
from simulations.cluster.workloads.deployment_status import deadline_in_s, next_status
from simulations.cluster.workloads.mirror import Key, Mirror, is_going, key_of
from simulations.cluster.workloads.reconciler import Reconciler

REVISION = "deployment.kubernetes.io/revision"
TEMPLATE_HASH = "pod-template-hash"
_NAME_ROOM = 253 - 1 - 10  # of a replica set's name: `-` and the hash


class DeploymentController:
    """Reconciles every Deployment it sees."""

    def __init__(self, mirror: Mirror, clock: Clock) -> None:
        self._mirror = mirror
        self._clock = clock
        self.reconciler = Reconciler("deployment", self._reconcile, clock)
        mirror.listen(DEPLOYMENTS, lambda before, after: self._wake(after or before))
        mirror.listen(REPLICA_SETS, lambda before, after: self._wake_owner(after or before))
        mirror.listen(PODS, self._wake_by_pod)

    def _wake(self, deployment: Object | None) -> None:
        if deployment is not None:
            self.reconciler.wake(key_of(deployment))

    def _wake_owner(self, replica_set: Object | None) -> None:
        if replica_set is None:
            return
        namespace, _ = key_of(replica_set)
        for reference in replica_set["metadata"].get("ownerReferences", ()):
            if reference["kind"] == "Deployment":
                self.reconciler.wake((namespace, reference["name"]))

    def _wake_by_pod(self, before: Object | None, after: Object | None) -> None:
        """The Recreate strategy waits for pods to be gone, which no replica set's status tells."""
        if before is None or after is not None:
            return
        for reference in before["metadata"].get("ownerReferences", ()):
            self._wake_owner(self._mirror.get(REPLICA_SETS, (key_of(before)[0], reference["name"])))

    async def _reconcile(self, key: Key) -> float | None:
        deployment = self._mirror.get(DEPLOYMENTS, key)
        if deployment is None or is_going(deployment):
            return None
        new, old = self._replica_sets(deployment)
        is_paused = bool(deployment["spec"].get("paused"))
        if new is None and not is_paused:
            new = await self._create(deployment, old)
        elif new is not None:
            new = await self._keep_newest(deployment, new, old)
        for name, replicas in self._sizes(deployment, new, old).items():
            await self._resize((key[0], name), replicas)
        await self._write_revision(deployment, new)
        new, old = self._replica_sets(deployment)
        await self._write_status(key, new, old)
        await self._forget_history(deployment, old)
        return deadline_in_s(self._mirror.get(DEPLOYMENTS, key), self._clock.now_s())

    def _replica_sets(self, deployment: Object) -> tuple[Object | None, list[Object]]:
        """The one of the current template, and the others, oldest revision first."""
        owned = self._mirror.find(REPLICA_SETS, "owner", deployment["metadata"]["uid"])
        current = rollout.template_hash(deployment["spec"]["template"])
        mine = [item for item in owned if item["metadata"]["labels"].get(TEMPLATE_HASH) == current]
        others = [item for item in owned if item["metadata"]["labels"].get(TEMPLATE_HASH) != current]
        return (mine[0] if mine else None), sorted(others, key=_revision)

    async def _create(self, deployment: Object, old: Sequence[Object]) -> Object:
        """Born with the size that the roll-out gives it first."""
        made = replica_set_for(deployment, _next_revision(old))
        made["spec"]["replicas"] = self._sizes(deployment, made, old)[made["metadata"]["name"]]
        return await self._mirror.create(REPLICA_SETS, made)

    async def _keep_newest(self, deployment: Object, new: Object, old: Sequence[Object]) -> Object:
        """A template that comes back takes its old replica set, with a new revision number."""
        revision = _next_revision(old)
        if _revision(new) >= revision:
            return new
        patch = {"metadata": {"annotations": {REVISION: str(revision)}}}
        return await self._mirror.patch(REPLICA_SETS, key_of(new), patch)

    def _sizes(self, deployment: Object, new: Object | None, old: Sequence[Object]) -> Mapping[str, int]:
        spec = deployment["spec"]
        desired = spec["replicas"]
        older = [_generation(item) for item in old]
        if new is None or spec.get("paused"):
            return rollout.paused_sizes(desired, _generation(new) if new else None, older)
        if (spec.get("strategy") or {}).get("type") == "Recreate":
            old_pods = sum(len(self._mirror.find(PODS, "owner", item["metadata"]["uid"])) for item in old)
            return rollout.recreate_sizes(desired, _generation(new), older, old_pods=old_pods)
        return rollout.rolling_sizes(desired, rollout.bounds(spec, desired), _generation(new), older)

    async def _resize(self, key: Key, replicas: int) -> None:
        replica_set = self._mirror.get(REPLICA_SETS, key)
        if replica_set is not None and replica_set["spec"]["replicas"] != replicas:
            await self._mirror.patch(REPLICA_SETS, key, {"spec": {"replicas": replicas}})

    async def _write_revision(self, deployment: Object, new: Object | None) -> None:
        if new is None:
            return
        revision = new["metadata"]["annotations"][REVISION]
        if deployment["metadata"].get("annotations", {}).get(REVISION) != revision:
            patch = {"metadata": {"annotations": {REVISION: revision}}}
            await self._mirror.patch(DEPLOYMENTS, key_of(deployment), patch)

    async def _write_status(self, key: Key, new: Object | None, old: Sequence[Object]) -> None:
        deployment = self._mirror.get(DEPLOYMENTS, key)
        if deployment is None:
            return
        before = deployment.get("status", {})
        after = next_status(deployment, new, old, now=timestamp(self._clock.now_s()))
        changed = {name: after.get(name) for name in {*before, *after} if before.get(name) != after.get(name)}
        if changed:
            await self._mirror.patch(DEPLOYMENTS, key, {"status": changed}, "status")

    async def _forget_history(self, deployment: Object, old: Sequence[Object]) -> None:
        """Empty replica sets beyond the history limit, oldest first."""
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        empty = [item for item in old if not item["spec"]["replicas"] and not item.get("status", {}).get("replicas")]
        for item in empty[: max(0, len(old) - limit)]:
            await self._mirror.delete(REPLICA_SETS, item)


def _revision(replica_set: Object) -> int:
    return int(replica_set["metadata"].get("annotations", {}).get(REVISION, "0"))


def _next_revision(old: Sequence[Object]) -> int:
    return 1 + max((_revision(item) for item in old), default=0)


def _generation(replica_set: Object) -> rollout.Generation:
    return rollout.Generation(
        name=replica_set["metadata"]["name"],
        replicas=replica_set["spec"]["replicas"],
        available=replica_set.get("status", {}).get("availableReplicas", 0),
    )


def replica_set_for(deployment: Object, revision: int) -> Object:
    """A new, empty replica set of the Deployment's template."""
    metadata, spec = deployment["metadata"], deployment["spec"]
    digest = rollout.template_hash(spec["template"])
    template = spec["template"]
    labels = {**template["metadata"].get("labels", {}), TEMPLATE_HASH: digest}
    annotations = {name: text for name, text in metadata.get("annotations", {}).items() if name != _LAST_APPLIED}
    return {
        "apiVersion": REPLICA_SETS.api_version,
        "kind": REPLICA_SETS.kind,
        "metadata": {
            "name": f"{metadata['name'][:_NAME_ROOM]}-{digest}",
            "namespace": metadata["namespace"],
            "labels": labels,
            "annotations": {**annotations, REVISION: str(revision)},
            "ownerReferences": [controller_reference(deployment)],
        },
        "spec": {
            "replicas": 0,
            "minReadySeconds": spec.get("minReadySeconds", 0),
            "selector": _with_hash(spec["selector"], digest),
            "template": {**template, "metadata": {**template["metadata"], "labels": labels}},
        },
    }


_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def _with_hash(selector: Object, digest: str) -> dict[str, Any]:
    return {**selector, "matchLabels": {**selector.get("matchLabels", {}), TEMPLATE_HASH: digest}}


def controller_reference(owner: Object) -> dict[str, Any]:
    """The ownerReference of what a controller makes."""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
