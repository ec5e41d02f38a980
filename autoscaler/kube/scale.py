"""Writing the number: the scale subresource, expecting the version seen, and the cost that names the victim."""

import logging
from collections.abc import Mapping
from typing import Any

from autoscaler.conditions import Problem
from autoscaler.errors import ApiFailure, Forbidden, Invalid
from autoscaler.kube.resources import DEPLOYMENTS, PODS, Object
from autoscaler.kube.views import DeploymentView, deployment_view
from autoscaler.kube.writer import Writer

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
# The lowest there is, so that no cost a user set comes first.
_VICTIM_COST = "-2147483647"
# A permission that is missing is tried again so that granting it needs no restart.
FORBIDDEN_RETRY_S = 600.0
FIELD_MANAGER = "warmtide"
SCALE_REFUSED = "ScaleRefused"

log = logging.getLogger(__name__)


class Scaler:
    """Patches scale subresources."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._no_costs_until_s = 0.0

    async def scale(self, deployment: DeploymentView, replicas: int, *, expected_version: str) -> str:
        """Set the number; the new version. Raises Conflict when the Deployment moved on since it was read."""
        body = {"metadata": {"resourceVersion": expected_version}, "spec": {"replicas": replicas}}
        path = DEPLOYMENTS.path(deployment.meta.namespace, deployment.meta.name, "scale")
        scale = await self._writer.patch(path, body)
        return str(scale["metadata"]["resourceVersion"])

    async def read(self, deployment: DeploymentView) -> DeploymentView:
        """The Deployment as it is now."""
        return deployment_view(await self._get(deployment))

    async def mark_victim(self, namespace: str, pod: str, now_s: float) -> None:
        """Make a pod the first to go. Best effort: without permission the ReplicaSet picks by its own order."""
        if now_s < self._no_costs_until_s:
            return
        try:
            body = {"metadata": {"annotations": {DELETION_COST: _VICTIM_COST}}}
            await self._writer.patch(PODS.path(namespace, pod), body)
        except Forbidden:
            self._no_costs_until_s = now_s + FORBIDDEN_RETRY_S
            log.info("pods may not be patched: Kubernetes picks the pods to go (opt in to choose the emptiest)")
        except ApiFailure as exc:
            log.info("%s/%s: not marked as the first to go: %s", namespace, pod, exc)

    async def who_wrote(self, deployment: DeploymentView) -> str:
        """The field manager that last set spec.replicas, besides us."""
        try:
            return fighter_of((await self._get(deployment))["metadata"])
        except ApiFailure:
            return ""

    async def _get(self, deployment: DeploymentView) -> Object:
        return await self._writer.get(DEPLOYMENTS.path(deployment.meta.namespace, deployment.meta.name))


def problem_of(failure: ApiFailure, deployment: DeploymentView) -> Problem | None:
    """A refusal that a human has to resolve; None: try again later."""
    name = f"Deployment {deployment.meta.key}"
    if isinstance(failure, Forbidden):
        message = f"{name}: deployments/scale may not be patched: {failure.message}; grant it to the controller"
    elif isinstance(failure, Invalid):
        message = f"{name}: the API server refuses the scale: {failure.message}"
    else:
        return None
    return Problem(reason=SCALE_REFUSED, message=message)


def fighter_of(metadata: Mapping[str, Any]) -> str:
    """Whoever last wrote spec.replicas, by managedFields; empty when they do not say."""
    writers = [
        (str(entry.get("time", "")), str(entry.get("manager", "")))
        for entry in metadata.get("managedFields") or ()
        if "f:replicas" in ((entry.get("fieldsV1") or {}).get("f:spec") or {}) and entry.get("manager") != FIELD_MANAGER
    ]
    return max(writers, default=("", ""))[1]
