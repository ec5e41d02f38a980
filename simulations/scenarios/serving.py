"""The parts of a scenario file that say who asks, and how the servers share the work.

clients: # they wait for their answers; without this part requests come by themselves
  count: 60 # at all times; or turns: 5, where the traffic's requests are conversations of so many
  thinkSeconds: 10 # on average, from the end of an answer to the next request
  # or instead of all that, "clients: fromTrace": who asks again is in the trace, and how long they thought is known
objective: {ttftSeconds: 2, itlSeconds: 0.05} # the latter, between tokens, for policies that can hold it
pools: # prefill and decoding apart: one has a fixed number of replicas, the policy scales the other one
  prefill: {replicas: 2, maxNumBatchedTokens: 8192} # or decode; a machine as above, but for what is said here
  # or both are scaled: "prefill: {min: 1, max: 4}", and the replicas above are those of decoding
  # gpuClass: NVIDIA-H100-80GB # of prefill alone; machine.gpuClass is of both, where this is left out
  kvBytesPerToken: 131072
  bytesPerSecond: 25e9 # of one transfer
adapters: # LoRA: each request, or each client, has one of so many
  count: 20 # or fromTrace: true, those that the trace's requests name
  zipf: 1 # the n-th is asked for as often as n to the power of minus this; 0: all alike
  loadSeconds: 0.5 # in the step that brings one in that is not loaded
  maxLoras: 4 # of a replica at once
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simulations.policies.base import Bounds, Role
from simulations.replica import PROFILES, AdapterLimits
from simulations.scenarios.adapters import AdapterUse, TracedAdapters
from simulations.scenarios.clients import Clients, TracedClients
from simulations.scenarios.nodes import ClassPart, made_classes
from simulations.scenarios.parts import Count, Part, PartOrWord, Positive, Seconds
from simulations.world.machines import Machine, on
from simulations.world.nodes import NodeGroup
from simulations.world.pools import FixedPool


class ClientsPart(PartOrWord):
    """As `Clients`, or `TracedClients`."""

    count: Count | None = None
    turns: Count | None = None
    think_seconds: Seconds | None = None
    from_trace: bool = False

    def made(self) -> Clients | TracedClients:
        """As a scenario takes it; ValueError."""
        if self.from_trace:
            if self.model_fields_set != {"from_trace"}:
                raise ValueError("clients: fromTrace says all: no count, turns or thinkSeconds beside it")
            return TracedClients()
        if self.think_seconds is None:
            raise ValueError("clients.thinkSeconds: Field required")
        return Clients(count=self.count, turns=self.turns, think_s=self.think_seconds)


class AdaptersPart(Part):
    """As `AdapterUse`, or `TracedAdapters`."""

    count: Count | None = None
    from_trace: bool = False
    zipf: Seconds = 0.0  # an exponent
    load_seconds: Seconds
    max_loras: Count = 1  # vLLM's default

    def made(self) -> AdapterUse | TracedAdapters:
        """As a scenario takes it; ValueError."""
        limits = AdapterLimits(max_loras=self.max_loras, load_s=self.load_seconds)
        if (self.count is None) != self.from_trace:
            raise ValueError("adapters needs either a count, or fromTrace: true")
        if self.count is None:
            return TracedAdapters(limits=limits)
        return AdapterUse(count=self.count, zipf=self.zipf, limits=limits)


class FixedPart(Part):
    """The pool beside the one that has the scenario's replicas; its machine is the scenario's, but for what it says."""

    replicas: Count | None = None
    min: Count | None = None
    max: Count | None = None
    profile: str | None = None
    gpu_class: str | None = None
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    num_gpu_blocks: Count | None = None

    def bounds(self) -> Bounds | None:
        """None: nobody scales it; ValueError."""
        if (self.replicas is None) == (self.max is None) or (self.min is not None and self.max is None):
            raise ValueError("pools: a pool needs replicas, as many as it always has, or max, and maybe min")
        return None if self.max is None else Bounds(low=self.min or 1, high=self.max)

    def machine(self, usual: Machine) -> Machine:
        """Limits, and what a step costs; ValueError."""
        if self.profile is not None and self.profile not in PROFILES:
            raise ValueError(f"pools: no profile {self.profile!r}; there are: {', '.join(PROFILES)}")
        limits = self.model_dump(exclude={"replicas", "min", "max", "profile", "gpu_class"}, exclude_none=True)
        times = usual.times if self.profile is None else PROFILES[self.profile]
        return Machine(config=replace(usual.config, **limits), times=times)


class PoolsPart(Part):
    """As `FixedPool`."""

    prefill: FixedPart | None = None
    decode: FixedPart | None = None
    kv_bytes_per_token: Positive
    bytes_per_second: Positive

    def made(self, usual: Machine, classes: Mapping[str, ClassPart], nodes: Sequence[NodeGroup]) -> FixedPool:
        """As a setting takes it, from the machine of the scaled pool and what that is on other classes; ValueError."""
        given = [(role, part) for role, part in self._both() if part is not None]
        if len(given) != 1:
            raise ValueError("pools needs prefill or decode, the one that has not the scenario's replicas")
        role, part = given[0]
        bounds = part.bounds()
        if bounds is not None and role is Role.DECODE:
            raise ValueError("pools: where both are scaled say the bounds of prefill; those of decode are replicas")
        its = part.machine(usual)
        on_class = made_classes(classes, nodes, its)
        if part.gpu_class is not None and part.gpu_class not in classes and (bounds is None or not nodes):
            raise ValueError(f"pools.{role}.gpuClass: machine.classes says nothing of {part.gpu_class}")
        if bounds is None:  # all on the same machine from the start
            its, on_class = on(part.gpu_class, on_class, its), ()
        return FixedPool(
            role=role,
            replicas=part.replicas or (1 if bounds is None else bounds.low),
            bounds=bounds,
            config=its.config,
            times=its.times,
            token_transfer_s=self.kv_bytes_per_token / self.bytes_per_second,
            gpu_class=part.gpu_class,
            on_class=on_class,
        )

    def _both(self) -> tuple[tuple[Role, FixedPart | None], ...]:
        return (Role.PREFILL, self.prefill), (Role.DECODE, self.decode)
