"""Prefill and decoding in pools of their own: a policy scales one of them, or there is one for each.

A request's prompt is computed in the prefill pool, its KV moves, and its tokens come from the decode pool, as with
vLLM's NixlConnector. What a policy sees are the pages of the pool that it scales: a decode replica's TTFT counts from
the arrival there, the user's from the arrival at the prefill pool.
"""

import math
from dataclasses import dataclass

from simulations.policies.base import Bounds, Role
from simulations.replica import EngineConfig, StepTimes

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
