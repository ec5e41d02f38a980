"""Prefill and decoding in pools of their own: a policy scales one of them, or there is one for each.

A request's prompt is computed in the prefill pool, its KV moves, and its tokens come from the decode pool, as with
vLLM's NixlConnector. What a policy sees are the pages of the pool that it scales: a decode replica's TTFT counts from
the arrival there, the user's from the arrival at the prefill pool.
"""

import math
from dataclasses import dataclass, replace

from simulations.policies.base import Bounds, Role
from simulations.replica import EngineConfig, StepTimes
from simulations.world.machines import ClassMachine, Machine

SCALED, FIXED = 0, 1  # pools of the fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPool:
    """The pool that nobody scales; or, where it has bounds, the one of prefill, whose policy is another one."""

    role: Role
    replicas: int  # at the beginning, where it has bounds
    config: EngineConfig
    times: StepTimes
    token_transfer_s: float  # what it takes to move the KV of one token of the prompt
    bounds: Bounds | None = None
    gpu_class: str | None = None  # of the nodes that its replicas may be on; None: as those of the other pool
    on_class: tuple[ClassMachine, ...] = ()  # what one is on nodes of these classes; where it has bounds

    def __post_init__(self) -> None:
        if self.bounds is not None and self.role is not Role.PREFILL:
            raise ValueError("of two pools that are scaled the second one is that of prefill")
        if self.replicas < 1:
            raise ValueError(f"a {self.role} pool of {self.replicas} replicas serves nobody")
        if not 0 <= self.token_transfer_s < math.inf:
            raise ValueError(f"FixedPool.token_transfer_s must be ≥ 0 and finite, got {self.token_transfer_s}")

    @property
    def prefill_pool(self) -> int:
        """Where users call."""
        return FIXED if self.role is Role.PREFILL else SCALED

    @property
    def scaled(self) -> Role:
        """What the pool does whose replicas a policy asks for."""
        return Role.DECODE if self.role is Role.PREFILL else Role.PREFILL

    def beside(self, before: Machine, now: Machine) -> "FixedPool":
        """The same where the usual machine is another one, see `machines.beside`."""
        its = Machine(config=self.config, times=self.times).beside(before, now)
        on_class = tuple(one.beside(before, now) for one in self.on_class)
        return replace(self, config=its.config, times=its.times, on_class=on_class)
