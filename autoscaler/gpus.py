"""How many more replicas would find free GPUs. Unknown, rather than wrong, wherever nodes can be added."""

from collections.abc import Mapping
from typing import NamedTuple

from autoscaler.kube.views import DeploymentView, NodeView, PodView

# Nodes with these labels come from a group that a cluster autoscaler can grow: free GPUs say nothing about the limit,
# and a pod that waits is what makes it grow.
_ELASTIC_LABELS = (
    "karpenter.sh/nodepool",
    "karpenter.sh/provisioner-name",
    "eks.amazonaws.com/nodegroup",
    "cloud.google.com/gke-nodepool",
    "kubernetes.azure.com/agentpool",
    "machine.openshift.io/machineset",
    "cluster-autoscaler.kubernetes.io/managed",
)


class _Ask(NamedTuple):
    """What decides where a replica fits."""

    gpus: tuple[tuple[str, int], ...]
    node_selector: tuple[tuple[str, str], ...]
    tolerated_keys: frozenset[str]


class GpuLedger:
    """Allocatable GPUs of the nodes minus what pods ask for, kept up to date pod by pod."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeView] = {}
        self._used: dict[str, dict[str, int]] = {}  # node → resource → count
        self._waiting: dict[str, int] = {}  # resource → count, of pods without a node
        self._answers: dict[_Ask, int | None] = {}  # until anything changes
        self._places: dict[_Ask, frozenset[str]] = {}  # until a node changes
        self._roomy: dict[_Ask, frozenset[str]] = {}  # until anything changes

    def node_changed(self, name: str, after: NodeView | None) -> None:
        """A node came, changed or went."""
        if after is None:
            self._nodes.pop(name, None)
        else:
            self._nodes[name] = after
        self._forget_answers()
        self._places.clear()

    def pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        """A pod came, moved on or went."""
        old, new = _claim(before), _claim(after)
        if old == new:
            return
        for claim, sign in ((old, -1), (new, 1)):
            if claim is not None:
                node, gpus = claim
                held = self._waiting if node is None else self._used.setdefault(node, {})
                for resource, count in gpus:
                    held[resource] = held.get(resource, 0) + sign * count
        self._forget_answers()

    def free_replicas(self, deployment: DeploymentView) -> int | None:
        """How many more pods of this Deployment would find a node now; None: it cannot be known."""
        if not deployment.gpus or not self._nodes:
            return None
        ask = _ask(deployment)
        if ask not in self._answers:
            self._answers[ask] = self._count(ask)
        return self._answers[ask]

    def free_gpus(self, node: NodeView) -> int:
        """Devices of a node that no pod on it asks for."""
        used = self._used.get(node.name, {})
        return sum(max(0, count - used.get(resource, 0)) for resource, count in node.gpus)

    def places(self, deployment: DeploymentView) -> frozenset[str]:
        """Nodes of the kind that a Deployment's pods go to, however full or away they are."""
        ask = _ask(deployment)
        if ask not in self._places:
            self._places[ask] = frozenset(name for name, node in self._nodes.items() if _suits(node, ask))
        return self._places[ask]

    def roomy(self, deployment: DeploymentView) -> frozenset[str]:
        """Nodes on which one more pod of a Deployment would find its devices now."""
        ask = _ask(deployment)
        if ask not in self._roomy:
            fitting = (node for node in self._nodes.values() if _fits(node, ask))
            self._roomy[ask] = frozenset(node.name for node in fitting if not ask.gpus or self._slots(node, ask))
        return self._roomy[ask]

    def _forget_answers(self) -> None:
        self._answers.clear()
        self._roomy.clear()

    def _count(self, ask: _Ask) -> int | None:
        fitting = [node for node in self._nodes.values() if _fits(node, ask)]
        if not fitting or any(_is_elastic(node) for node in fitting):
            return None
        slots = sum(self._slots(node, ask) for node in fitting)
        # Pods that wait for a node will take theirs first.
        queued = max((-(-self._waiting.get(resource, 0) // count) for resource, count in ask.gpus), default=0)
        return max(0, slots - queued)

    def _slots(self, node: NodeView, ask: _Ask) -> int:
        used = self._used.get(node.name, {})
        allocatable = dict(node.gpus)
        return max(0, min((allocatable[name] - used.get(name, 0)) // count for name, count in ask.gpus))


def _claim(pod: PodView | None) -> tuple[str | None, tuple[tuple[str, int], ...]] | None:
    """What a pod holds and where; a gated pod holds nothing yet."""
    if pod is None or pod.is_over or not pod.gpus or (pod.is_gated and pod.node is None):
        return None
    return pod.node, pod.gpus


def _ask(deployment: DeploymentView) -> _Ask:
    return _Ask(deployment.gpus, tuple(sorted(deployment.node_selector.items())), deployment.tolerated_keys)


def _fits(node: NodeView, ask: _Ask) -> bool:
    return node.is_usable and _suits(node, ask)


def _suits(node: NodeView, ask: _Ask) -> bool:
    offered: Mapping[str, int] = dict(node.gpus)
    return (
        all(resource in offered for resource, _ in ask.gpus)
        and all(node.labels.get(key) == value for key, value in ask.node_selector)
        and ("" in ask.tolerated_keys or all(_tolerates(key, ask) for key in node.taint_keys))
    )


def _tolerates(taint_key: str, ask: _Ask) -> bool:
    # The API server's ExtendedResourceToleration adds the toleration for a device's own taint to pods that ask for it.
    return taint_key in ask.tolerated_keys or any(taint_key == resource for resource, _ in ask.gpus)


def _is_elastic(node: NodeView) -> bool:
    return any(label in node.labels for label in _ELASTIC_LABELS)
