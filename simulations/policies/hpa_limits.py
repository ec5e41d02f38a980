"""What the HPA does to a recommendation before it writes the number: with a `behavior`, and without one.

After `pkg/controller/podautoscaler/horizontal.go` of Kubernetes 1.36. An object that has no `behavior` takes another
path there: no rates per period, but never beyond the larger of twice the present number and four.
"""

from dataclasses import dataclass, field
from typing import Protocol

from autoscaler.policy.behavior import Change, changed, highest_allowed, lowest_allowed
from autoscaler.policy.spec import ScalingRules, default_scale_down, default_scale_up

from .base import Bounds

TOLERANCE_RATIO = 0.10  # --horizontal-pod-autoscaler-tolerance
DOWN_WINDOW_S = 300.0  # --horizontal-pod-autoscaler-downscale-stabilization
GROWTH_RATIO, GROWTH_MIN_REPLICAS = 2, 4  # scaleUpLimitFactor and scaleUpLimitMinimum

Recommended = tuple[tuple[float, int], ...]  # (at_s, replicas)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """How far from 1 a ratio may be without consequence."""

    down: float = TOLERANCE_RATIO
    up: float = TOLERANCE_RATIO

    def hold(self, ratio: float) -> bool:
        """Whether it is too small a change."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Limits(Protocol):
    """From a recommendation to the number written; remembers both."""

    @property
    def bounds(self) -> Bounds: ...

    @property
    def tolerances(self) -> Tolerances: ...

    def begin(self, current: int, now_s: float) -> None:
        """The first sync counts the present number as a recommendation."""
        ...

    def moved(self, added: int, now_s: float) -> None:
        """A change of the number that no metric asked for."""
        ...

    def settle(self, recommended: int, current: int, now_s: float) -> int:
        """The number to write."""
        ...


@dataclass(slots=True, kw_only=True)
class Unruled:
    """An object without `behavior`: the highest recommendation of the window, and a cap on growth per sync."""

    bounds: Bounds
    down_window_s: float = DOWN_WINDOW_S
    tolerances: Tolerances = field(default_factory=Tolerances)
    _recommended: Recommended = ()

    def begin(self, current: int, now_s: float) -> None:
        """The present number is the first recommendation."""
        if not self._recommended:
            self._recommended = ((now_s, current),)

    def moved(self, added: int, now_s: float) -> None:
        """Nothing limits changes over time here."""

    def settle(self, recommended: int, current: int, now_s: float) -> int:
        """Stabilise downwards, then cap."""
        self.begin(current, now_s)
        self._recommended = (*_since(self._recommended, now_s - self.down_window_s), (now_s, recommended))
        stable = max(number for _, number in self._recommended)
        growth = max(GROWTH_RATIO * current, GROWTH_MIN_REPLICAS)
        return max(self.bounds.low, min(stable, growth, self.bounds.high))


@dataclass(slots=True, kw_only=True)
class Behavior:
    """An object with `behavior`: windows and rates in both directions."""

    bounds: Bounds
    up: ScalingRules
    down: ScalingRules
    _recommended: Recommended = ()
    _changes: tuple[Change, ...] = ()

    @property
    def tolerances(self) -> Tolerances:
        """Per direction, as the rules say."""
        return Tolerances(down=self.down.tolerance_ratio, up=self.up.tolerance_ratio)

    def begin(self, current: int, now_s: float) -> None:
        """The present number is the first recommendation."""
        if not self._recommended:
            self._recommended = ((now_s, current),)

    def moved(self, added: int, now_s: float) -> None:
        """It counts against the rates."""
        self._changes = changed(self._changes, now_s, added, now_s)

    def settle(self, recommended: int, current: int, now_s: float) -> int:
        """Stabilise, limit the rate, stay within bounds."""
        self.begin(current, now_s)
        stable = self._stabilised(recommended, current, now_s)
        if stable > current:
            limit = highest_allowed(self.up, current, self._changes, now_s)
            wanted = int(min(stable, limit, self.bounds.high))
        elif stable < current:
            wanted = max(stable, lowest_allowed(self.down, current, self._changes, now_s), self.bounds.low)
        else:
            wanted = current
        if wanted != current:
            self.moved(wanted - current, now_s)
        return wanted

    def _stabilised(self, recommended: int, current: int, now_s: float) -> int:
        up_from_s = now_s - self.up.stabilization_window_s
        down_from_s = now_s - self.down.stabilization_window_s
        lowest = min([recommended, *(number for at_s, number in self._recommended if at_s > up_from_s)])
        highest = max([recommended, *(number for at_s, number in self._recommended if at_s > down_from_s)])
        self._recommended = (*_since(self._recommended, min(up_from_s, down_from_s)), (now_s, recommended))
        return min(max(current, lowest), highest)


def ruled(bounds: Bounds) -> Behavior:
    """A `behavior` whose fields are all left to their defaults."""
    return Behavior(bounds=bounds, up=default_scale_up(), down=default_scale_down())


def _since(recommended: Recommended, from_s: float) -> Recommended:
    return tuple(past for past in recommended if past[0] > from_s)
