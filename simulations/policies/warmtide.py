"""Warmtide itself: the controller's `decide`, asked when the controller would ask it."""

from dataclasses import dataclass

from autoscaler.policy.decide import decide
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.types import Decision, Observation

from .base import Cadence, Wish, samples

SCRAPE_S = 2.0  # the controller's period under load
REGULAR_S = 15.0  # and it decides at least so often


@dataclass(slots=True, kw_only=True)
class Warmtide:
    """One service's memory; every scrape may wake it, as events do."""

    spec: PolicySpec
    decisions: int = 0
    last: Decision | None = None
    _memory: Memory | None = None
    _phases: tuple[tuple[str, str], ...] = ()
    _waiting: float = 0.0

    @property
    def cadence(self) -> Cadence:
        """The controller's."""
        return Cadence(scrape_s=SCRAPE_S, decide_s=SCRAPE_S)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """Decide, where there is a reason to."""
        if not self._is_woken(seen, now_s):
            return None
        memory = self._memory or Memory.start(seen.replicas, now_s)
        self.last, self._memory = decide(seen, self.spec, memory, now_s=now_s)
        self.decisions += 1
        return Wish(
            replicas=self.last.replicas,
            victim=self.last.victim,
            reason=self.last.reason,
            lens=self.last.binding_lens or "",
            steps=self.last.steps,
        )

    def _is_woken(self, seen: Observation, now_s: float) -> bool:
        phases = tuple((pod.name, pod.phase) for pod in seen.pods)
        waiting = sum((sample.waiting_requests or 0.0) for sample in samples(seen))
        waiting += seen.upstream_waiting_requests or 0.0
        moved, grown = phases != self._phases, waiting > self._waiting
        self._phases, self._waiting = phases, waiting
        if self.last is None or moved or grown or now_s - self.last.decided_at_s >= REGULAR_S:
            return True
        return self.last.revisit_at_s is not None and now_s >= self.last.revisit_at_s
