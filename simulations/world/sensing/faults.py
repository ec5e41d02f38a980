"""Sensors that fail for a while: pages that are missing, stuck, late or wrong. Every policy suffers the same."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from metrics.sample import Histogram, PodSignals
from simulations.policies.base import SignalsWithPaces
from simulations.world.sensing.sensors import Sensing

Look = dict[int, PodSignals | None]  # by slot


class FaultKind(StrEnum):
    """What is wrong with what is read."""

    MISSING = "missing"  # no page is read: what was read before grows old, or is gone where a server says so
    STUCK = "stuck"  # pages are read, and say what they said when it began: no counter moves
    LATE = "late"  # what is read reaches the policy `amount` seconds later
    SCALED = "scaled"  # gauges are `amount` times what they should be


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorFault:
    """All replicas' pages, from `begin_s` to `end_s`."""

    kind: FaultKind
    begin_s: float
    end_s: float
    amount: float = 1.0  # seconds where late, a factor where scaled

    def __post_init__(self) -> None:
        if not 0 <= self.begin_s < self.end_s < math.inf:
            raise ValueError(f"a fault needs 0 ≤ begin_s < end_s, got {self.begin_s} and {self.end_s}")
        if not 0 <= self.amount < math.inf:
            raise ValueError(f"a fault's amount must be ≥ 0 and finite, got {self.amount}")

    def is_on(self, now_s: float) -> bool:
        """Whether it is now."""
        return self.begin_s <= now_s < self.end_s


class FaultySensors:
    """Sensors, and what their faults make of them."""

    def __init__(self, sound: Sensing, faults: Sequence[SensorFault]) -> None:
        self._sound, self._faults = sound, tuple(faults)
        self._looks: deque[tuple[float, Look]] = deque()
        self._before: Look = {}  # what was last said before the faults that are on
        self._kept_s = max([fault.amount for fault in faults if fault.kind is FaultKind.LATE], default=0.0)

    @property
    def period_s(self) -> float:
        """Of the sound ones."""
        return self._sound.period_s

    @property
    def next_read_s(self) -> float:
        """Of the sound ones."""
        return self._sound.next_read_s

    @property
    def held(self) -> tuple[float, float | None]:
        """Whoever holds requests before the replicas still says so."""
        return self._sound.held

    def move(self, until_s: float) -> tuple[float, bool]:
        """What is not read, or is read late, wakes nobody."""
        at_s, is_news = self._sound.move(until_s)
        return at_s, is_news and not any(fault.is_on(at_s) and fault.kind in _UNHEARD for fault in self._faults)

    def begin(self, slot: int, now_s: float) -> None:
        """A new replica said nothing yet."""
        self._before.pop(slot, None)
        for _, look in self._looks:
            look.pop(slot, None)
        self._sound.begin(slot, now_s)

    def leave(self, slot: int) -> None:
        """As without faults."""
        self._sound.leave(slot)

    def end(self, slot: int) -> None:
        """As without faults."""
        self._sound.end(slot)

    def left_of(self, before: PodSignals, now_s: float) -> PodSignals | None:
        """As without faults."""
        return self._sound.left_of(before, now_s)

    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]:
        """What of the truth gets through."""
        said: Look = dict(zip(slots, self._sound.look(slots, now_s), strict=True))
        self._looks.append((now_s, said))
        while len(self._looks) > 1 and self._looks[1][0] <= now_s - self._kept_s:
            self._looks.popleft()
        on = [fault for fault in self._faults if fault.is_on(now_s)]
        if not on:
            self._before = said
        for fault in on:
            said = {slot: self._garbled(fault, slot, signals, now_s) for slot, signals in said.items()}
        return list(said.values())

    def _garbled(self, fault: SensorFault, slot: int, signals: PodSignals | None, now_s: float) -> PodSignals | None:
        if fault.kind is FaultKind.MISSING:
            before = self._before.get(slot)
            return None if before is None else self._sound.left_of(before, now_s)
        if fault.kind is FaultKind.LATE:
            at_s, look = self._looks[0]
            return look.get(slot) if at_s <= now_s - fault.amount else None
        if signals is None:
            return None
        if fault.kind is FaultKind.STUCK:
            before = self._before.get(slot)
            return (
                None if before is None else _stuck(before, signals.observed_at_s, signals.observed_at_s - fault.begin_s)
            )
        return replace(
            signals,
            running_requests=(signals.running_requests or 0.0) * fault.amount,
            waiting_requests=(signals.waiting_requests or 0.0) * fault.amount,
            kv_cache_usage_ratio=min(1.0, (signals.kv_cache_usage_ratio or 0.0) * fault.amount),
        )


_UNHEARD = (FaultKind.MISSING, FaultKind.STUCK, FaultKind.LATE)


def _stuck(before: PodSignals, observed_at_s: float, for_s: float) -> PodSignals:
    """A page that is served again and again: its gauges as they were, its counters without increase."""
    has_work = bool(before.running_requests or before.waiting_requests)
    if isinstance(before, SignalsWithPaces):
        before = replace(before, tpot_s=_emptied(before.tpot_s))
    return replace(
        before,
        observed_at_s=observed_at_s,
        prompt_tokens_per_s=_none_or_zero(before.prompt_tokens_per_s),
        computed_prompt_tokens_per_s=_none_or_zero(before.computed_prompt_tokens_per_s),
        generation_tokens_per_s=_none_or_zero(before.generation_tokens_per_s),
        preemptions_per_s=_none_or_zero(before.preemptions_per_s),
        finished_requests_per_s=_none_or_zero(before.finished_requests_per_s),
        ttft_s=_emptied(before.ttft_s),
        itl_s=_emptied(before.itl_s),
        stalled_for_s=for_s if has_work and before.stalled_for_s is not None else before.stalled_for_s,
    )


def _emptied(latencies: Histogram | None) -> Histogram | None:
    if latencies is None:
        return None
    return Histogram(bounds=latencies.bounds, counts=(0.0,) * len(latencies.bounds), sum=0.0)


def _none_or_zero(rate: float | None) -> float | None:
    return None if rate is None else 0.0
