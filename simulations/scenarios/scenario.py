"""A scenario: traffic, the machine that serves it, and what its users expect."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from simulations.compiled.fleet import Router
from simulations.compiled.layout import Records
from simulations.compiled.names import BlockNames
from simulations.compiled.records import requests_of
from simulations.policies.base import Bounds
from simulations.replica import EngineConfig, StepTimes
from simulations.scenarios.adapters import AdapterUse, TracedAdapters, names_within
from simulations.scenarios.clients import Clients, TracedClients
from simulations.scenarios.draw import Traffic
from simulations.scenarios.spool import Spool
from simulations.traces import Blocks, Chunk, joined
from simulations.traces.chunk import Longs
from simulations.world import Setting
from simulations.world.machines import ClassMachine, Machine
from simulations.world.nodes import NodeGroup
from simulations.world.pools import FixedPool
from simulations.world.sensing.faults import SensorFault
from simulations.world.sensing.prometheus import Monitoring
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import StartupTimes

IN_MEMORY_MAX = 3_000_000  # requests: half a gigabyte with their course


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Scenario:
    """All that a setting needs but a seed."""

    name: str
    says: str
    traffic: Traffic
    profile: str  # of model and GPU, a name for people
    engine: EngineConfig
    times: StepTimes
    bounds: Bounds
    ttft_s: float = 2.0
    itl_s: float | None = None  # between tokens; None: nothing is said of it
    startup: StartupTimes | Phases = field(default_factory=StartupTimes)
    router: Router = Router.LEAST_OUTSTANDING
    monitoring: Monitoring = field(default_factory=Monitoring)
    faults: tuple[SensorFault, ...] = ()
    fixed_pool: FixedPool | None = None  # of prefill or decoding; the policy scales the other phase's
    adapters: AdapterUse | TracedAdapters | None = None
    clients: Clients | TracedClients | None = None  # None: requests come by themselves
    gpus_per_replica: int = 1
    gpu_class: str | None = None  # of the nodes that its replicas may be on; None: of all
    on_class: tuple[ClassMachine, ...] = ()  # what a replica is on nodes of these classes
    nodes: tuple[NodeGroup, ...] = ()  # none: there is always room
    budget_gpus: int | None = None  # a quota

    def chunks(self, seed: int) -> Iterator[Chunk]:
        """The traffic of a seed, streamed."""
        return self.traffic.chunks(seed)

    def make(self, seed: int) -> Records:
        """The same at once, as the engine takes it: without what a server would refuse."""
        return self.setting(seed)[0].requests

    def setting(self, seed: int) -> tuple[Setting, int]:
        """All of it, ready to be simulated, and how many requests were left out; ValueError where none is left.

        Where the traffic says what prompts share, the servers cache it, as vLLM does unless it is told not to.
        Of more requests than IN_MEMORY_MAX, those after the first part are kept in a file, for each policy to read.
        """
        setting, refused = self._drawn(seed)
        for fault in self.faults:
            if fault.begin_s >= setting.span_s:
                late = f"a fault begins at {fault.begin_s:g} s, and the last request comes at {setting.span_s:g} s"
                raise ValueError(f"scenario {self.name}: sensors.faults: {late}")
        return setting, refused

    def measured(self, now: Machine) -> "Scenario":
        """On a machine that was measured: what it is on other classes and in the other pool keeps its ratio to it."""
        before = Machine(config=self.engine, times=self.times)
        on_class = tuple(one.beside(before, now) for one in self.on_class)
        pool = None if self.fixed_pool is None else self.fixed_pool.beside(before, now)
        return replace(self, engine=now.config, times=now.times, on_class=on_class, fixed_pool=pool)

    def _drawn(self, seed: int) -> tuple[Setting, int]:
        head: list[Chunk] = []
        rest = self.chunks(seed)
        for chunk in rest:
            head.append(chunk)
            if sum(map(len, head)) > IN_MEMORY_MAX:
                return self._in_parts(seed, joined(head), rest)
        kept, refused = servable(joined(head), self.engine)
        names = None if kept.blocks is None else block_names(kept, self.engine.block_size_tokens)
        plain = self._plain(kept, seed)
        config = replace(self.engine, caches_prefixes=names is not None)
        setting = replace(plain, config=config, names=names)
        return self._called(setting, kept, seed), refused

    def _called(self, setting: Setting, kept: Chunk, seed: int) -> Setting:
        """With the clients who ask, their adapters, and the pool beside the scaled one, where there are any."""
        if self.clients is None and self.fixed_pool is None and self.adapters is None:
            return setting
        requests, follows, names, adapters = setting.requests, None, setting.names, None
        if self.clients is not None:
            requests, follows = self.clients.calls(kept, self.times, seed)
        if self.adapters is not None:
            follows, adapters = self.adapters.deal(kept, len(requests), follows, seed)
            names = None if names is None else names_within(names, follows, adapters)
        return replace(
            setting,
            requests=requests,
            follows=follows,
            names=names,
            ends_at_s=float(kept.at_s[-1]),
            fixed_pool=self.fixed_pool,
            adapters=adapters,
        )

    def _in_parts(self, seed: int, head: Chunk, rest: Iterator[Chunk]) -> tuple[Setting, int]:
        """The first part, and the way to the others, drawn or read this once; SpoolError: no room for them."""
        self._check_apart(head)
        first, refused = servable(head, self.engine)
        ends_at_s = float(head.at_s[-1])
        spool = Spool()
        for chunk in rest:
            kept, left_out = servable(chunk, self.engine)
            spool.add(kept)
            refused += left_out
            ends_at_s = float(chunk.at_s[-1])
        spool.check()
        return replace(self._plain(first, seed), more=spool.parts, ends_at_s=ends_at_s), refused

    def _check_apart(self, head: Chunk) -> None:
        """ValueError where requests have to do with each other, so that all must be known at once."""
        linked = {
            "clients": self.clients,  # who asks next is whoever was answered
            "pools": self.fixed_pool,  # each is two requests, of which one calls the other
            "adapters": self.adapters,
            "prompts that share blocks": head.blocks,
        }
        if told := [name for name, value in linked.items() if value is not None]:
            raise ValueError(
                f"scenario {self.name}: more than {IN_MEMORY_MAX:,} requests: with {' and '.join(told)} all must be in "
                "memory at once; take a part of the span (traffic.beginSeconds and endSeconds; of a trace also "
                "warmtide sim trace convert --end 1d), or fewer requests a second (traffic.rateRatio)"
            )

    def _plain(self, kept: Chunk, seed: int) -> Setting:
        return Setting(
            requests=_records(kept),
            config=self.engine,
            times=self.times,
            bounds=self.bounds,
            replicas_at_start=self.bounds.low,
            startup=self.startup,
            ttft_s=self.ttft_s,
            itl_s=self.itl_s,
            seed=seed,
            router=self.router,
            monitoring=self.monitoring,
            faults=self.faults,
            gpus_per_replica=self.gpus_per_replica,
            gpus_per_node=self.gpus_per_replica,
            nodes=self.nodes,
            gpu_class=self.gpu_class,
            on_class=self.on_class,
            budget_gpus=self.budget_gpus,
        )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Together:
    """Services on the same nodes, the most important first."""

    name: str
    says: str
    services: tuple[Scenario, ...]


def _records(kept: Chunk) -> Records:
    return requests_of(kept.at_s, kept.prompt_tokens, kept.output_tokens)


def servable(found: Chunk, config: EngineConfig) -> tuple[Chunk, int]:
    """The requests that a server takes, and how many it does not: empty, or too long for the model."""
    total_tokens = found.prompt_tokens.astype(np.int64) + found.output_tokens
    fits = (found.prompt_tokens > 0) & (found.output_tokens > 0) & (total_tokens <= config.max_model_len_tokens)
    kept = found.take(np.flatnonzero(fits))
    return kept, len(found) - len(kept)


def block_names(found: Chunk, block_size_tokens: int) -> BlockNames:
    """A trace's blocks as the engine has them: more and smaller, as far as the prompt fills them and shares them."""
    blocks = found.blocks
    if blocks is None:
        raise ValueError("the traffic has no block ids")
    smaller, odd = divmod(blocks.block_tokens, block_size_tokens)
    if odd or not smaller:
        raise ValueError(f"blocks of {blocks.block_tokens} tokens do not divide into blocks of {block_size_tokens}")
    full = found.prompt_tokens.astype(np.int64) // block_size_tokens
    counts = np.minimum(_shared(blocks) * smaller, full)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    within = np.arange(starts[-1]) - np.repeat(starts[:-1], counts)
    ids = blocks.ids[np.repeat(blocks.starts[:-1], counts) + within // smaller]
    return BlockNames(names=ids * smaller + within % smaller, starts=starts)


def _shared(blocks: Blocks) -> Longs:
    """How many of each request's first blocks another has, too: an id stands for a block and all before it."""
    _, places, counts = np.unique(blocks.ids, return_inverse=True, return_counts=True)
    is_shared = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[places] > 1)])
    shared: Longs = is_shared[blocks.starts[1:]] - is_shared[blocks.starts[:-1]]
    return shared
