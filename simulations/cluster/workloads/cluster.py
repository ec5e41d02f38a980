"""All stand-in workload controllers as one: what a controller manager, a scheduler and kubelets do on a cluster."""

import asyncio
from collections.abc import Mapping, Sequence

from metrics.clock import Clock
from simulations.cluster.api import (
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    HPAS,
    NODES,
    PODS,
    REPLICA_SETS,
    SERVICES,
    ApiError,
    ObjectApi,
    Resource,
)
from simulations.cluster.workloads import hpa
from simulations.cluster.workloads.deployment import DeploymentController
from simulations.cluster.workloads.endpoints import EndpointsController, by_selector
from simulations.cluster.workloads.kubelet import Kubelet
from simulations.cluster.workloads.mirror import Keys, Mirror, by_label, by_owner
from simulations.cluster.workloads.nodes import NodeSpec, node_object, node_status
from simulations.cluster.workloads.pods import node_of
from simulations.cluster.workloads.replicaset import ReplicaSetController
from simulations.cluster.workloads.runtime import ContainerRuntime
from simulations.cluster.workloads.scheduler import Scheduler
from simulations.cluster.workloads.startup import FixedStartup, StartupModel
from simulations.cluster.workloads.weights import WeightStore

_WATCHED: Mapping[Resource, Mapping[str, Keys]] = {
    NODES: {},
    PODS: {"owner": by_owner, "label": by_label, "node": lambda pod: (node_of(pod),)},
    REPLICA_SETS: {"owner": by_owner},
    DEPLOYMENTS: {},
    SERVICES: {"selector": by_selector},
    ENDPOINT_SLICES: {"label": by_label},
    HPAS: {"target": hpa.by_target},
}


class Workloads:
    """Deployments become pods on nodes, pods become endpoints, and all of it follows every change."""

    def __init__(
        self,
        api: ObjectApi,
        nodes: Sequence[NodeSpec],
        runtime: ContainerRuntime,
        clock: Clock,
        startup: StartupModel | None = None,
        weights: WeightStore | None = None,
    ) -> None:
        """Without a `startup` model a pod's start takes what its container takes; `weights` brings real bytes."""
        self._api = api
        self._nodes = tuple(nodes)
        self.mirror = Mirror(api, _WATCHED)
        names = [node.name for node in nodes]
        self.kubelet = Kubelet(self.mirror, names, runtime, startup or FixedStartup(), clock, weights)
        controllers = (
            DeploymentController(self.mirror, clock),
            ReplicaSetController(self.mirror, clock),
            Scheduler(self.mirror, clock),
            EndpointsController(self.mirror, clock),
            hpa.HpaController(self.mirror, clock),
        )
        self._reconcilers = tuple(controller.reconciler for controller in controllers)

    def leave_to_others(self) -> "Workloads":
        """Run nodes only: where a real controller manager and scheduler do the rest."""
        self._reconcilers = ()
        return self

    @property
    def is_idle(self) -> bool:
        """No controller has anything left to do but wait for events and time."""
        return all(one.is_idle for one in (*self._reconcilers, self.kubelet.reconciler))

    async def run(self) -> None:
        """Register the nodes, then follow the API for ever. Containers end with it."""
        for spec in self._nodes:
            await self._register(spec)
        await self.mirror.load()
        async with asyncio.TaskGroup() as group:
            for reconciler in self._reconcilers:
                group.create_task(reconciler.run())
            group.create_task(self.kubelet.run())
            group.create_task(self.mirror.follow())

    async def _register(self, spec: NodeSpec) -> None:
        """Create the Node, or take the one there is; a real API server taints it until its kubelet says otherwise."""
        try:
            await self._api.create(NODES, node_object(spec))
        except ApiError as error:
            if error.code != 409:
                raise
        taints = [dict(taint) for taint in spec.taints] or None
        await self._api.patch(NODES, "", spec.name, {"spec": {"taints": taints}})
        await self._api.patch(NODES, "", spec.name, {"status": node_status(spec)}, "status")
