"""Where the next replica of a service would start, and what it would find there. Pure: the simulator can use it."""

from collections.abc import Container, Mapping
from dataclasses import dataclass

from autoscaler.policy.types import Landing, Tier

# Free places come and go with every pod; an expectation that flips with them would have the forecast start over.
LANDING_SETTLES_S = 300.0


def landing_of(roomy: Mapping[str, str], warm: Container[str]) -> Landing:
    """From the nodes with room for one more pod, each with its class, and those that hold the weights.

    Warm when it starts warm wherever the scheduler puts it. Where nothing is free a new node comes: cold.
    """
    classes = set(roomy.values())
    tier = Tier.WARM if roomy and all(node in warm for node in roomy) else Tier.COLD
    return Landing(tier=tier, node_class=classes.pop() if len(classes) == 1 else "")


@dataclass(slots=True)
class SettledLanding:
    """What a service goes by: worse at once, better after it has stood for a while."""

    told: Landing | None = None
    _better: Landing | None = None
    _since_s: float = 0.0

    def settle(self, seen: Landing | None, now_s: float) -> Landing | None:
        """Note what is seen now; the answer is what to go by."""
        if seen == self.told or self.told is None or seen is None or seen.tier is Tier.COLD:
            self.told, self._better = seen, None
        elif self._better != seen:
            self._better, self._since_s = seen, now_s
        elif now_s - self._since_s >= LANDING_SETTLES_S:
            self.told, self._better = seen, None
        return self.told
