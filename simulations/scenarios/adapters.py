"""LoRA adapters of a scenario: which request asks for which of them."""

from dataclasses import dataclass

import numpy as np

from simulations.compiled.fleet import Adapters
from simulations.compiled.follows import firsts_of, nothing_follows
from simulations.compiled.layout import Records
from simulations.compiled.names import BlockNames
from simulations.replica import AdapterLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUse:
    """`count` adapters, asked for as in Zipf's law: the n-th as often as n to the power of -`zipf`; 0: all alike.

    A client keeps to one. Prompts that begin alike share their blocks within an adapter only, as in vLLM.
    """

    count: int
    zipf: float
    limits: AdapterLimits

    @property
    def adapters(self) -> Adapters:
        """As a fleet takes them."""
        return Adapters(count=self.count, limits=self.limits)

    def deal(self, requests: int, follows: Records | None, seed: int) -> Records:
        """What follows each request, with its adapter."""
        dealt = nothing_follows(requests) if follows is None else follows.copy()
        shares = np.arange(1, self.count + 1) ** -self.zipf
        random = np.random.default_rng([seed, 2])  # not the luck of the traffic, nor of its clients
        drawn = 1 + random.choice(self.count, requests, p=shares / shares.sum())
        first = np.zeros(requests, np.int64)  # whose turn each one is: a client's requests stand together
        first[firsts_of(dealt, requests)] = firsts_of(dealt, requests)
        dealt["adapter"] = drawn[np.maximum.accumulate(first)]
        return dealt


def names_within(names: BlockNames, follows: Records, use: AdapterUse) -> BlockNames:
    """Names of blocks that only requests with the same adapter share."""
    adapters = np.repeat(follows["adapter"].astype(np.int64), np.diff(names.starts))
    return BlockNames(names=names.names * (use.count + 1) + adapters, starts=names.starts)
