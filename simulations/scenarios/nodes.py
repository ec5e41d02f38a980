"""The part of a scenario file that says on which nodes replicas are, and what befalls those.

nodes: # in the order in which they are used; without this part there is always room
- name: own
  gpuClass: NVIDIA-L40S # price: as cost.yaml of kserve-vllm-mini has it for this product
  gpus: 4 # of each node
  memoryBytes: 512e9 # of each node, for engines that sleep and for files; 128 GiB for each GPU without this
  count: 2
- name: spot
  gpus: 4
  min: 0 # bought while replicas wait for a node, given back when empty for idleSeconds
  max: 6
  provisionSeconds: 90
  idleSeconds: 600
  pricePerGpuHour: 0.6
  spot: {reclaimsPerHour: 0.1, noticeSeconds: 120} # of each node
  lossesPerHour: 0.001 # of each node, without a notice
  losses: [{node: 0, atSeconds: 1800}] # told instead of drawn
budgetGpus: 12 # a quota over all services
machine:
  gpus: 1 # of each replica; else as the profile's name says: 2 of one that ends in -tp2
  gpuClass: NVIDIA-L40S # on nodes of this class only
  classes: # what a replica is on nodes of other classes; where nothing is said, it is the same
    NVIDIA-H100-80GB: {profile: llama-3.1-8b-h100, numGpuBlocks: 28233}
    NVIDIA-A10: {speedRatio: 0.6, maxNumSeqs: 128} # of the machine's profile

Instead of one service a file may say `services:`, a list of them with a `name` each, the most important first: what
waits of the first is placed before the next has a turn, and nobody is evicted. `warmtide sim scenarios two-services`
prints one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulations.replica import PROFILES
from simulations.scenarios.parts import Bytes, Count, Part, Positive, Seconds
from simulations.world.machines import ClassMachine, Machine
from simulations.world.nodes import IDLE_S, NODE_CLASS, NOTICE_S, NodeGroup


class SpotPart(Part):
    """How often nodes are taken back."""

    reclaims_per_hour: Seconds
    notice_seconds: Seconds = NOTICE_S


class LossPart(Part):
    """One loss."""

    node: int
    at_seconds: Seconds


class NodesPart(Part):
    """As `NodeGroup`."""

    name: str = "node"
    gpu_class: str = NODE_CLASS
    gpus: Count = 1
    memory_bytes: Bytes | None = None
    count: Count | None = None
    min: int | None = None
    max: Count | None = None
    provision_seconds: Seconds = 0.0
    idle_seconds: Seconds = IDLE_S
    price_per_gpu_hour: Seconds | None = None
    spot: SpotPart | None = None
    losses_per_hour: Seconds = 0.0
    losses: tuple[LossPart, ...] = ()

    def made(self) -> NodeGroup:
        """As the world takes it; ValueError where that cannot be."""
        low, high = self._bounds()
        return NodeGroup(
            name=self.name,
            gpu_class=self.gpu_class,
            gpus=self.gpus,
            memory_bytes=None if self.memory_bytes is None else round(self.memory_bytes),
            low=low,
            high=high,
            provision_s=self.provision_seconds,
            idle_s=self.idle_seconds,
            reclaims_per_hour=self.spot.reclaims_per_hour if self.spot else 0.0,
            notice_s=self.spot.notice_seconds if self.spot else NOTICE_S,
            losses_per_hour=self.losses_per_hour,
            losses_at_s=tuple((loss.node, loss.at_seconds) for loss in self.losses),
            price_per_gpu_hour=_price(self.gpu_class) if self.price_per_gpu_hour is None else self.price_per_gpu_hour,
        )

    def _bounds(self) -> tuple[int, int]:
        if self.count is not None and self.min is None and self.max is None:
            return self.count, self.count
        if self.count is None and self.max is not None:
            return self.min or 0, self.max
        raise ValueError(f"nodes {self.name}: either a count is expected, or a max and perhaps a min")


class ClassPart(Part):
    """As `ClassMachine`: a profile of its own, or the machine's at another speed; limits as the machine's but these."""

    profile: str | None = None
    speed_ratio: Positive | None = None
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    num_gpu_blocks: Count | None = None

    def made(self, gpu_class: str, usual: Machine) -> ClassMachine:
        """As the world takes it; ValueError."""
        if (self.profile is None) == (self.speed_ratio is None):
            raise ValueError(f"machine.classes.{gpu_class}: either a profile or a speedRatio is expected")
        if self.profile is not None and self.profile not in PROFILES:
            raise ValueError(
                f"machine.classes.{gpu_class}: no profile {self.profile!r}; there are: {', '.join(PROFILES)}"
            )
        limits = self.model_dump(exclude={"profile", "speed_ratio"}, exclude_none=True)
        its = PROFILES[self.profile] if self.profile is not None else usual.times.sped_up(self.speed_ratio or 1.0)
        return ClassMachine(gpu_class=gpu_class, config=replace(usual.config, **limits), times=its)


def made_classes(
    parts: Mapping[str, ClassPart], nodes: Sequence[NodeGroup], usual: Machine
) -> tuple[ClassMachine, ...]:
    """All of them; ValueError where nodes are given, and none is of a class."""
    for gpu_class in parts:
        if nodes and gpu_class not in {group.gpu_class for group in nodes}:
            raise ValueError(f"machine.classes: no nodes are of class {gpu_class}")
    return tuple(part.made(gpu_class, usual) for gpu_class, part in parts.items())


def _price(gpu_class: str) -> float:
    from simulations.outputs.prices import PRICE_PER_HOUR, PRICES_PER_HOUR  # with what writes Parquet: only where asked

    return PRICES_PER_HOUR.get(gpu_class, PRICE_PER_HOUR)


def made_nodes(parts: Sequence[NodesPart]) -> tuple[NodeGroup, ...]:
    """All groups; ValueError where two have one name."""
    names = [part.name for part in parts]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"nodes: {names.count(name)} groups are called {name!r}")
    return tuple(part.made() for part in parts)


def check_fits(nodes: Sequence[NodeGroup], *, gpus: int, gpu_class: str | None) -> None:
    """ValueError where nodes are given, and a replica would never find one."""
    most_gpus = max([group.gpus for group in nodes if gpu_class in (None, group.gpu_class)], default=0)
    if nodes and most_gpus < gpus:
        which = f" of class {gpu_class}" if gpu_class else ""
        raise ValueError(f"machine: a replica of {gpus} GPUs does not fit a node{which}, got at most {most_gpus}")
