"""How long a pod's start takes, phase by phase: pure values that the kubelet waits for.

The kubelet knows which images and weights lie on which node; a `StartupModel` turns that into seconds.
"""

from dataclasses import dataclass
from typing import Protocol

from autoscaler.policy.types import Tier
from simulations.cluster.api import Object

STORAGE_URI = "STORAGE_URI"  # of a container that KServe shall bring a model to
SOURCE_URI = "internal.serving.kserve.io/storage-initializer-sourceuri"  # KServe's pod annotation


@dataclass(frozen=True, slots=True, kw_only=True)
class StartupPhases:
    """Seconds of each phase, in the order in which a pod goes through them."""

    image_pull_s: float = 0.0  # Pending, ContainerCreating
    weights_s: float = 0.0  # Pending, PodInitializing: weights come to the node
    load_s: float = 0.0  # Running, not ready: weights to the GPU, compile, graphs

    def __post_init__(self) -> None:
        for name in ("image_pull_s", "weights_s", "load_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be ≥ 0, got {getattr(self, name)}")

    @property
    def total_s(self) -> float:
        """Scheduled → ready, without what the container itself takes."""
        return self.image_pull_s + self.weights_s + self.load_s


class StartupModel(Protocol):
    """Seconds of a start on a node that has, or lacks, the image and the weights."""

    def phases(self, pod: Object, *, node: str, has_image: bool, tier: Tier) -> StartupPhases: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedStartup:
    """The same seconds for every pod. The default is a start that takes no time."""

    image_pull_s: float = 0.0
    cold_weights_s: float = 0.0
    warm_weights_s: float = 0.0
    load_s: float = 0.0

    def phases(self, pod: Object, *, node: str, has_image: bool, tier: Tier) -> StartupPhases:
        """A present image costs nothing; weights cost by tier."""
        del pod, node
        return StartupPhases(
            image_pull_s=0.0 if has_image else self.image_pull_s,
            weights_s=self.cold_weights_s if tier is Tier.COLD else self.warm_weights_s,
            load_s=self.load_s,
        )


def images_of(pod: Object) -> frozenset[str]:
    """Images that the pod's containers need."""
    spec = pod["spec"]
    containers = [*spec.get("initContainers", []), *spec["containers"]]
    return frozenset(container.get("image", "") for container in containers)


def model_of(pod: Object) -> str:
    """What names the pod's weights: its source URI, else the server's `--model`, else its image."""
    uri = pod["metadata"].get("annotations", {}).get(SOURCE_URI)
    if uri:
        return str(uri)
    container = pod["spec"]["containers"][0]
    for variable in container.get("env", []):
        if variable["name"] == STORAGE_URI and variable.get("value"):
            return str(variable["value"])
    words = [*container.get("command", []), *container.get("args", [])]
    for position, word in enumerate(words):
        if word.startswith("--model="):
            return str(word.removeprefix("--model="))
        if word == "--model" and position + 1 < len(words):
            return str(words[position + 1])
    return str(container.get("image", ""))
