"""LoRA adapters of a scenario: which request asks for which of them."""

from dataclasses import dataclass

import numpy as np

from simulations.compiled.fleet import Adapters
from simulations.compiled.follows import nothing_follows
from simulations.compiled.layout import NOBODY, Records
from simulations.compiled.names import BlockNames
from simulations.replica import AdapterLimits
from simulations.traces import Chunk
from simulations.traces.chunk import Longs

Dealt = tuple[Records, Adapters]  # what follows each request, with its adapter, and all adapters


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterUse:
    """`count` adapters, asked for as in Zipf's law: the n-th as often as n to the power of -`zipf`; 0: all alike.

    A client keeps to one. Prompts that begin alike share their blocks within an adapter only, as in vLLM.
    """

    count: int
    zipf: float
    limits: AdapterLimits

    def deal(self, found: Chunk, requests: int, follows: Records | None, seed: int) -> Dealt:
        """One for each client, or request, whatever the traffic says."""
        del found
        dealt = nothing_follows(requests) if follows is None else follows.copy()
        shares = np.arange(1, self.count + 1) ** -self.zipf
        random = np.random.default_rng([seed, 2])  # not the luck of the traffic, nor of its clients
        drawn = 1 + random.choice(self.count, requests, p=shares / shares.sum())
        dealt["adapter"] = drawn[_begun_by(dealt["next_request"])]
        return dealt, Adapters(count=self.count, limits=self.limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedAdapters:
    """Those that the trace's requests name; who names none asks the model itself."""

    limits: AdapterLimits

    def deal(self, found: Chunk, requests: int, follows: Records | None, seed: int) -> Dealt:
        """Each request's own; ValueError where the trace names none, or the requests are not those of the trace."""
        del seed  # nothing is drawn
        if found.callers is None or (found.callers.adapters == NOBODY).all():
            raise ValueError("adapters.fromTrace needs a trace whose requests name adapters; this one's do not")
        if requests != len(found):
            raise ValueError("adapters.fromTrace needs the trace's own requests; clients.count draws others")
        dealt = nothing_follows(requests) if follows is None else follows.copy()
        named = found.callers.adapters
        known = np.unique(named[named != NOBODY])
        dealt["adapter"] = np.where(named == NOBODY, 0, 1 + np.searchsorted(known, named))
        return dealt, Adapters(count=len(known), limits=self.limits)


def _begun_by(next_requests: Longs) -> Longs:
    """The first request of the client of each: himself, or by leaps of twice the length that of the one before."""
    begun: Longs = np.arange(len(next_requests))
    leads = np.flatnonzero(next_requests != NOBODY)
    begun[next_requests[leads]] = leads
    while (begun[begun] != begun).any():
        begun = begun[begun]
    return begun


def names_within(names: BlockNames, follows: Records, adapters: Adapters) -> BlockNames:
    """Names of blocks that only requests with the same adapter share."""
    each = np.repeat(follows["adapter"].astype(np.int64), np.diff(names.starts))
    return BlockNames(names=names.names * (adapters.count + 1) + each, starts=names.starts)
