"""A number that never changes: a Deployment without an autoscaler."""

from dataclasses import dataclass

from autoscaler.policy.types import Observation

from .base import Cadence, Wish


@dataclass(frozen=True, slots=True)
class Static:
    """What a team has that sized its fleet once."""

    replicas: int

    @property
    def cadence(self) -> Cadence:
        """It need not look."""
        return Cadence(scrape_s=3600.0, decide_s=3600.0, reads_rates=False)

    def wish(self, seen: Observation, now_s: float) -> Wish | None:
        """Always the same."""
        del seen, now_s
        return Wish(replicas=self.replicas)
