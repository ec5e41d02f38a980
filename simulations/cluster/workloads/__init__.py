"""Stand-ins for the Deployment, ReplicaSet, HPA, scheduler, kubelet and endpoints controllers."""

from simulations.cluster.workloads.cluster import Workloads
from simulations.cluster.workloads.nodes import NodeSpec
from simulations.cluster.workloads.runtime import Container, ContainerRuntime, InstantRuntime
from simulations.cluster.workloads.startup import FixedStartup, StartupModel, StartupPhases

__all__ = [
    "Container",
    "ContainerRuntime",
    "FixedStartup",
    "InstantRuntime",
    "NodeSpec",
    "StartupModel",
    "StartupPhases",
    "Workloads",
]
