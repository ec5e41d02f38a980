"""Warmtide itself: the controller's `decide`, asked when the controller would ask it."""

from dataclasses import dataclass, field

from autoscaler.policy.decide import decide
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.types import Decision, Observation
from autoscaler.rhythm import PASS_PERIOD_MAX_S
from autoscaler.settings import MetricsEndpoint

from .base import Cadence, Events, Wish


@dataclass(slots=True, kw_only=True)
class Warmtide:
    """One service's memory. `regular_s`: between looks while nothing happens; None: as the controller."""

    spec: PolicySpec
    endpoint: MetricsEndpoint = field(default_factory=MetricsEndpoint)
    regular_s: float | None = None
    decisions: int = 0
    last: Decision | None = None
    _memory: Memory | None = None

    @property
    def cadence(self) -> Cadence:
        """The controller's."""
        return Cadence(
            scrape_s=self.endpoint.period_s,
            decide_s=self.regular_s or PASS_PERIOD_MAX_S,
            reads_gaps=self.spec.objectives.itl_s is not None,
            events=Events(targets=self.spec.targets, endpoint=self.endpoint, follows_pods=self.regular_s is None),
        )

    def wish(self, seen: Observation, now_s: float) -> Wish:
        """One pass."""
        memory = self._memory or Memory.start(seen.replicas, now_s)
        self.last, self._memory = decide(seen, self.spec, memory, now_s=now_s)
        self.decisions += 1
        return Wish(
            replicas=self.last.replicas,
            victim=self.last.victim,
            reason=self.last.reason,
            lens=self.last.binding_lens or "",
            steps=self.last.steps,
            again_at_s=self.last.revisit_at_s,
        )
