"""Numbers of replicas as Prometheus has them: from its last scrape of kube-state-metrics, not from the API server."""

import math
from collections import deque
from dataclasses import fields
from random import Random

from autoscaler.policy.types import Observation
from simulations.policies.base import Cadence, Counts, SeenWithCounts
from simulations.world.pods import Pods


class StateMetrics:
    """Remembers what was, as far back as the last scrape."""

    def __init__(self, scrape_s: float, random: Random) -> None:
        self._scrape_s, self._phase_s = scrape_s, random.random() * scrape_s
        self._noted: deque[tuple[float, Counts]] = deque()

    def note(self, counts: Counts, now_s: float) -> None:
        """How it is from now on; that it is as before says nothing new."""
        if not self._noted or self._noted[-1][1] != counts:
            self._noted.append((now_s, counts))

    def told(self, seen: Observation, now_s: float) -> SeenWithCounts:
        """The same, with the numbers of the last scrape; before the first one, those of the beginning."""
        scraped_at_s = self._phase_s + math.floor((now_s - self._phase_s) / self._scrape_s) * self._scrape_s
        while len(self._noted) > 1 and self._noted[1][0] <= scraped_at_s:
            self._noted.popleft()
        return SeenWithCounts(
            **{field.name: getattr(seen, field.name) for field in fields(seen)}, counts=self._noted[0][1]
        )


def state_metrics(cadence: Cadence, seed: int) -> StateMetrics | None:
    """For who asks for such numbers."""
    if cadence.queries is None or not cadence.queries.counts_replicas:
        return None
    return StateMetrics(cadence.scrape_s, Random(f"{seed} kube-state-metrics"))


def counts_of(wanted: int, pods: Pods) -> Counts:
    """How it is."""
    return Counts(wanted=wanted, present=pods.replicas, ready=len(pods.serving))
