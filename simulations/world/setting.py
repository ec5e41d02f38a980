"""What all policies of a comparison share: traffic, machine, bounds, start-up times, objective, luck."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from simulations.compiled.fleet import Adapters, Router
from simulations.compiled.layout import Records
from simulations.compiled.names import BlockNames
from simulations.policies.base import Bounds
from simulations.replica import EngineConfig, StepTimes
from simulations.world.machines import ClassMachine, Machine, on
from simulations.world.nodes import NODE_CLASS, NodeGroup, Nodes
from simulations.world.pools import FixedPool
from simulations.world.sensing.faults import SensorFault
from simulations.world.sensing.prometheus import Monitoring
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import StartupTimes

# Draining replicas keep their GPUs for a while: room for as many again as may serve.
PLACES_PER_REPLICA = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all policies of a comparison share; `requests` is never written to.

    Of a long course, `requests` is the first part, and `more` gives those that follow, made anew with each call.
    """

    requests: Records
    config: EngineConfig
    times: StepTimes
    bounds: Bounds
    replicas_at_start: int
    startup: StartupTimes | Phases = field(default_factory=StartupTimes)
    ttft_s: float = 2.0
    itl_s: float | None = None  # between tokens: what policies are told that can hold it; None: their makers' default
    seed: int = 1
    router: Router = Router.LEAST_OUTSTANDING
    more: Callable[[], Iterator[Records]] | None = None
    ends_at_s: float | None = None  # None: with the last arrival
    faults: tuple[SensorFault, ...] = ()
    monitoring: Monitoring = field(default_factory=Monitoring)
    gpus_per_replica: int = 1  # tensor x pipeline parallel: what a replica costs, and takes of a node
    gpus_per_node: int = 1  # replicas of one node share its disk: weights that are there are there for all
    nodes: tuple[NodeGroup, ...] = ()  # none: as many of `gpus_per_node` as it ever needs
    gpu_class: str | None = None  # of the nodes that its replicas may be on; None: of all
    on_class: tuple[ClassMachine, ...] = ()  # what a replica is on nodes of these classes; else `config` and `times`
    budget_gpus: int | None = None  # a quota
    names: BlockNames | None = None  # of the blocks that `requests` share; a prefix cache knows them by these
    fixed_pool: FixedPool | None = None  # prefill or decoding apart from what the policy scales
    adapters: Adapters | None = None  # LoRA; which request has which is in `follows`
    follows: Records | None = None  # of each request, which comes when it ended: that one has no time of its own

    def __post_init__(self) -> None:
        if not len(self.requests):
            raise ValueError("a setting needs at least one request")
        if not 0 < self.ttft_s < math.inf:
            raise ValueError(f"the TTFT objective must be > 0 and finite, got {self.ttft_s}")
        if self.itl_s is not None and not 0 < self.itl_s < math.inf:
            raise ValueError(f"the objective between tokens must be > 0 and finite, got {self.itl_s}")
        if not self.bounds.low <= self.replicas_at_start <= self.bounds.high:
            raise ValueError(
                f"replicas_at_start must be within {self.bounds.low} and {self.bounds.high}, "
                f"got {self.replicas_at_start}"
            )
        if not 1 <= self.gpus_per_replica <= self._most_gpus():
            raise ValueError(f"a replica of {self.gpus_per_replica} GPUs does not fit a node of {self._most_gpus()}")
        self._check_requests()

    def _check_requests(self) -> None:
        """How they come, and who may serve them."""
        if self.more is not None and self.ends_at_s is None:
            raise ValueError("a setting whose requests come in parts needs ends_at_s")
        if self.is_chained and (self.more is not None or self.ends_at_s is None):
            raise ValueError("a setting whose requests follow each other needs all of them at once, and ends_at_s")
        if self.names is not None and (self.more is not None or self.names.requests != len(self.requests)):
            raise ValueError("a setting with names of blocks needs one list of them for each request, and all at once")

    def make_nodes(self) -> Nodes:
        """Its nodes, with the fates of its seed."""
        return Nodes(self.nodes or (self.enough(),), seed=self.seed, budget_gpus=self.budget_gpus)

    @property
    def first_machine(self) -> Machine:
        """What a replica is where the first one goes, and where who measures one of them would measure it."""
        usable = (group.gpu_class for group in self.nodes if self.fits(group))
        found = on(next(usable, self.gpu_class), self.on_class, Machine(config=self.config, times=self.times))
        config = replace(found.config, caches_prefixes=self.config.caches_prefixes)
        return Machine(config=config, times=found.times)

    def fits(self, group: NodeGroup) -> bool:
        """Whether a replica may be on such a node."""
        return group.gpus >= self.gpus_per_replica and self.gpu_class in (None, group.gpu_class)

    def _most_gpus(self) -> int:
        usable = [group.gpus for group in self.nodes if self.gpu_class in (None, group.gpu_class)]
        return max(usable, default=0) if self.nodes else self.gpus_per_node

    def enough(self) -> NodeGroup:
        """Nodes of its own, as many as it ever needs."""
        per_node = self.gpus_per_node // self.gpus_per_replica
        nodes = -(-self.bounds.high * PLACES_PER_REPLICA // per_node)
        return NodeGroup(gpu_class=self.gpu_class or NODE_CLASS, gpus=self.gpus_per_node, low=nodes, high=nodes)

    @property
    def is_chained(self) -> bool:
        """Whether some requests come, or go on elsewhere, only when others end."""
        return self.follows is not None or self.fixed_pool is not None

    @property
    def scales_both(self) -> bool:
        """Whether prefill and decoding are apart, and each is scaled by a policy of its own."""
        return self.fixed_pool is not None and self.fixed_pool.bounds is not None

    @property
    def has_clients(self) -> bool:
        """Whether some come only when others were answered: how many do so is up to the policy."""
        return bool(np.isinf(self.requests["arrived_at_s"]).any())

    @property
    def span_s(self) -> float:
        """What is paid for, from 0 on."""
        return self.ends_at_s if self.ends_at_s is not None else float(self.requests["arrived_at_s"][-1])
