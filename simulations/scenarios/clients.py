"""Clients who think before they ask again: closed loops, and conversations that come by themselves and then go on.

The three kinds of Schroeder, Wierman and Harchol-Balter, "Open versus closed: a cautionary tale" (NSDI 2006): an open
system has no clients at all; a closed one has a fixed number of them; in a partly-open one they come as they like, ask
some times, and go. What they ask, and how long they think, is drawn before the run: every policy meets the same users.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulations.compiled.follows import closed_loop
from simulations.compiled.layout import Records
from simulations.compiled.records import requests_of
from simulations.replica import StepTimes
from simulations.traces import Chunk
from simulations.traces.chunk import NOBODY, Longs

Floats = NDArray[np.float64]
Calls = tuple[Records, Records]  # requests, and what follows what

CALLS_MAX = 3_000_000  # all are drawn before the run, and in memory
DRAWN_AT_ONCE = 64  # calls of a client


@dataclass(frozen=True, slots=True, kw_only=True)
class Clients:
    """`count` of them from the beginning to the end, or to their `turns`-th request; think times are exponential.

    Without `count`, the first of every `turns` requests of the traffic is a client who comes then, and the others are
    his: the rate is that of the traffic as long as nobody waits.
    """

    think_s: float  # mean, from the end of an answer to the next request
    count: int | None = None
    turns: int | None = None

    def __post_init__(self) -> None:
        if self.count is None and self.turns is None:
            raise ValueError("clients need a count, or turns, or both")

    def calls(self, found: Chunk, times: StepTimes, seed: int) -> Calls:
        """Their requests, of the lengths of the traffic; ValueError where these are too many, or share blocks."""
        random = np.random.default_rng([seed, 1])  # not the luck of the traffic itself
        if self.count is not None:
            return self._closed(self.count, found, times, random)
        users = np.arange(len(found)) // (self.turns or 1)
        requests = requests_of(found.at_s, found.prompt_tokens, found.output_tokens)
        return _linked(requests, users, random.exponential(self.think_s, len(found)))

    def _closed(self, count: int, found: Chunk, times: StepTimes, random: np.random.Generator) -> Calls:
        if found.blocks is not None:
            raise ValueError("clients.count draws requests that share no blocks; of this traffic say clients.turns")
        # However fast the answers come: a token takes a step.
        quickest_s = found.output_tokens.astype(np.float64) * (times.base_s + times.overhead_s)
        lasts = 1.0 + float(found.at_s[-1]) / float(self.think_s + quickest_s.mean())
        expected = count * min(lasts, self.turns or lasts)
        if expected > CALLS_MAX:
            raise ValueError(
                f"{count} clients may ask {expected:,.0f} times, expected at most {CALLS_MAX:,}, which are all in "
                "memory at once: take fewer clients, fewer turns, longer thoughts or an earlier traffic.endSeconds"
            )
        lives = [self._life(quickest_s, float(found.at_s[-1]), random) for _ in range(count)]
        rows = np.concatenate([rows for rows, _ in lives])
        users = np.repeat(np.arange(count), [len(rows) for rows, _ in lives])
        begins_s = np.sort(random.uniform(0.0, self.think_s, count))[users]
        requests = requests_of(begins_s, found.prompt_tokens[rows], found.output_tokens[rows])
        return _linked(requests, users, np.concatenate([think_s for _, think_s in lives]))

    def _life(self, quickest_s: Floats, span_s: float, random: np.random.Generator) -> tuple[Longs, Floats]:
        """What one client asks, by the row of the traffic, and how long he thinks then: enough to last to the end."""
        rows, think_s = np.zeros(0, np.int64), np.zeros(0)
        limit = self.turns or CALLS_MAX + 1
        while len(rows) < limit and (quickest_s[rows] + think_s).sum() <= span_s:
            more = min(DRAWN_AT_ONCE, limit - len(rows))
            rows = np.concatenate([rows, random.integers(0, len(quickest_s), more)])
            think_s = np.concatenate([think_s, random.exponential(self.think_s, more)])
        return rows, think_s


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedClients:
    """Those of the trace: a conversation's first request comes when it came, each other one a thought after the answer.

    A thought is what passed between two requests of a conversation in the trace, less what the first one's answer took,
    where the trace says how long that was: else nothing is taken off, and who is answered at once comes as in the
    trace. Whoever has no conversation asks once.
    """

    def calls(self, found: Chunk, times: StepTimes, seed: int) -> Calls:
        """As `Clients.calls`; ValueError where the trace has no conversations."""
        del times, seed  # nothing is drawn
        callers = found.callers
        if callers is None or (callers.sessions == NOBODY).all():
            raise ValueError("clients: fromTrace needs a trace that says whose request each is; this one does not")
        alone = callers.sessions == NOBODY
        users = np.where(alone, -1 - np.arange(len(found)), callers.sessions)
        order = np.argsort(users, kind="stable")
        think_s = np.zeros(len(found))
        between_s = np.diff(found.at_s[order]) - np.nan_to_num(callers.took_s[order][:-1])
        think_s[order[:-1]] = np.maximum(between_s, 0.0)  # past the end of a conversation nobody looks at it
        follows = closed_loop(users, think_s)
        requests = requests_of(found.at_s, found.prompt_tokens, found.output_tokens)
        requests["arrived_at_s"][follows["next_request"][follows["next_request"] != NOBODY]] = np.inf
        return requests, follows


def _linked(requests: Records, users: Longs, think_s: Floats) -> Calls:
    """Everybody's first request has its time; the others have none yet."""
    follows = closed_loop(users, think_s)
    requests["arrived_at_s"][1:][users[1:] == users[:-1]] = np.inf
    return requests, follows
