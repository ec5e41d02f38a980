"""Our `behavior` against the HPA's, written down a second time from its documented formulas."""

import math
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policy.behavior import (
    KEPT_MAX,
    Wishes,
    changed,
    highest_allowed,
    highest_wish,
    lowest_allowed,
    lowest_wish,
    next_expiry_s,
    next_period_end_s,
    wished,
)
from autoscaler.policy.decide import decide
from autoscaler.policy.examples import fleet, signals
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import (
    ForecastSpec,
    LensTargets,
    Objectives,
    PolicySpec,
    PolicyType,
    RateLimit,
    ScalingRules,
    SelectPolicy,
)

MIN, MAX = 1, 60


@dataclass
class Hpa:
    """`stabilizeRecommendationWithBehaviors` and `convertDesiredReplicasWithBehaviorRate`, sampled."""

    up: ScalingRules
    down: ScalingRules
    recommendations: list[tuple[float, int]] = field(default_factory=list)
    ups: list[tuple[float, int]] = field(default_factory=list)
    downs: list[tuple[float, int]] = field(default_factory=list)

    def sync(self, current: int, wish: int, now_s: float) -> int:
        self.recommendations.append((now_s, wish))
        stabilized = self._stabilize(current, now_s)
        desired = self._rate(current, stabilized, now_s)
        desired = min(max(desired, MIN), MAX)
        if desired > current:
            self.ups.append((now_s, desired - current))
        elif desired < current:
            self.downs.append((now_s, current - desired))
        return desired

    def _stabilize(self, current: int, now_s: float) -> int:
        lowest = min(self._within(self.up.stabilization_window_s, now_s))
        highest = max(self._within(self.down.stabilization_window_s, now_s))
        return min(max(current, lowest), highest)

    def _within(self, window_s: float, now_s: float) -> list[int]:
        newest = self.recommendations[-1][1]
        return [newest, *(wish for at_s, wish in self.recommendations if at_s > now_s - window_s)]

    def _rate(self, current: int, wish: int, now_s: float) -> int:
        if wish > current:
            return min(wish, max(current, self._up_limit(current, now_s)))
        if wish < current:
            return max(wish, min(current, self._down_limit(current, now_s)))
        return wish

    def _start(self, current: int, period_s: float, now_s: float) -> int:
        added = sum(change for at_s, change in self.ups if at_s > now_s - period_s)
        removed = sum(change for at_s, change in self.downs if at_s > now_s - period_s)
        return current - added + removed

    def _up_limit(self, current: int, now_s: float) -> int:
        if self.up.select_policy is SelectPolicy.DISABLED:
            return current
        proposed = []
        for limit in self.up.rate_limits:
            start = self._start(current, limit.period_s, now_s)
            if limit.type is PolicyType.PODS:
                proposed.append(start + limit.value)
            else:
                proposed.append(math.ceil(start * (1 + limit.value / 100)))
        return min(proposed) if self.up.select_policy is SelectPolicy.MIN else max(proposed)

    def _down_limit(self, current: int, now_s: float) -> int:
        if self.down.select_policy is SelectPolicy.DISABLED:
            return current
        proposed = []
        for limit in self.down.rate_limits:
            start = self._start(current, limit.period_s, now_s)
            if limit.type is PolicyType.PODS:
                proposed.append(start - limit.value)
            else:
                proposed.append(int(start * (1 - limit.value / 100)))
        return max(proposed) if self.down.select_policy is SelectPolicy.MIN else min(proposed)


limits = st.builds(
    RateLimit,
    type=st.sampled_from(PolicyType),
    value=st.integers(1, 120),
    period_s=st.sampled_from([15.0, 30.0, 60.0, 180.0]),
)
behaviors = st.builds(
    ScalingRules,
    tolerance_ratio=st.just(0.0),
    stabilization_window_s=st.sampled_from([0.0, 15.0, 60.0, 300.0]),
    select_policy=st.sampled_from(SelectPolicy),
    rate_limits=st.lists(limits, min_size=1, max_size=3).map(tuple),
)
move_lists = st.lists(st.tuples(st.integers(1, 90), st.integers(1, 60)), max_size=25)
wish_lists = st.lists(st.integers(1, 60), min_size=1, max_size=25)


@dataclass
class Ours:
    """The same, by the functions under test, in the way `limits.py` puts them together."""

    up: ScalingRules
    down: ScalingRules
    wishes: Wishes
    changes: tuple[tuple[float, int], ...] = ()

    def sync(self, current: int, wish: int, now_s: float) -> int:
        self.wishes = wished(self.wishes, wish, now_s)
        desired = wish
        if wish > current:
            desired = int(min(wish, highest_allowed(self.up, current, self.changes, now_s)))
            desired = max(current, min(desired, lowest_wish(self.wishes, self.up.stabilization_window_s, now_s)))
        elif wish < current:
            desired = max(wish, lowest_allowed(self.down, current, self.changes, now_s))
            desired = min(current, max(desired, highest_wish(self.wishes, self.down.stabilization_window_s, now_s)))
        desired = min(max(desired, MIN), MAX)
        if desired != current:
            self.changes = changed(self.changes, now_s, desired - current, now_s)
        return desired


@settings(max_examples=150, deadline=None)
@given(behaviors, behaviors, st.integers(1, 40), move_lists)
def test_woken_only_by_changes_we_equal_an_hpa_that_syncs_all_the_time(
    up: ScalingRules, down: ScalingRules, current: int, moves: list[tuple[int, int]]
) -> None:
    """The HPA sees every wish at its start, at its end and in between; we are called once per change."""
    hpa, ours = Hpa(up, down), Ours(up, down, Wishes(wish=current))
    hpa.recommendations.append((0.0, current))
    now_s, wish = 0.0, current
    theirs = mine = current
    for wait_s, next_wish in moves:
        now_s += wait_s
        hpa.recommendations.append((now_s, wish))  # the old wish was in effect until now
        wish = next_wish
        theirs = hpa.sync(theirs, wish, now_s)
        mine = ours.sync(mine, wish, now_s)

        assert mine == theirs


@settings(max_examples=40, deadline=None)
@given(behaviors, behaviors, st.integers(1, 12), st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_decide_as_a_whole_equals_the_hpa_apart_from_one_victim_at_a_time(
    up: ScalingRules, down: ScalingRules, current: int, wishes: list[int]
) -> None:
    policy = PolicySpec(
        replicas_min=MIN,
        replicas_max=MAX,
        objectives=Objectives(ttft_s=None),
        targets=LensTargets(
            queue_requests=None, kv_cache_usage_ratio=None, running_requests=1.0, use_learned_capacity=False
        ),
        forecast=ForecastSpec(enabled=False),
        scale_up=up,
        scale_down=replace(down, select_policy=SelectPolicy.DISABLED),
    )
    hpa = Hpa(policy.scale_up, policy.scale_down)
    hpa.recommendations.append((0.0, current))
    memory, wish, now_s = Memory.start(current, 0.0), current, 0.0
    for next_wish in wishes:
        now_s += 15.0
        hpa.recommendations.append((now_s, wish))
        wish = next_wish
        seen = fleet([signals(now_s, running_requests=wish / current, waiting_requests=0.0) for _ in range(current)])
        decision, memory = decide(seen, policy, memory, now_s=now_s)
        current = hpa.sync(current, decision.steps[0].replicas, now_s)
        wish = decision.steps[0].replicas

        assert decision.replicas == current


@given(st.integers(1, 30), wish_lists, st.sampled_from([0.0, 60.0, 300.0]))
def test_waking_twice_as_often_does_not_change_the_windows(current: int, wishes: list[int], window_s: float) -> None:
    once = twice = Wishes(wish=current)
    for index, wish in enumerate(wishes):
        at_s = 40.0 * (index + 1)
        once = wished(once, wish, at_s)
        twice = wished(wished(twice, wish, at_s), wish, at_s + 20.0)

        for look_s in (at_s + 20.0, at_s + 39.0):
            assert highest_wish(once, window_s, look_s) == highest_wish(twice, window_s, look_s)
            assert lowest_wish(once, window_s, look_s) == lowest_wish(twice, window_s, look_s)


@pytest.mark.parametrize(
    ("after_s", "highest"),
    [
        pytest.param(299.0, 5, id="just before"),
        pytest.param(300.0, 2, id="at"),
        pytest.param(301.0, 2, id="just after"),
    ],
)
def test_a_wish_leaves_the_window_when_it_has_not_been_in_effect_for_all_of_it(after_s: float, highest: int) -> None:
    wishes = wished(Wishes(wish=5), 2, 100.0)

    assert highest_wish(wishes, 300.0, 100.0 + after_s) == highest


def test_past_wishes_are_bounded_and_what_is_merged_holds_at_least_as_long() -> None:
    falling = Wishes(wish=500)
    for index in range(200):
        falling = wished(falling, 499 - index, 10.0 * (index + 1))
    rising = Wishes(wish=0)
    for index in range(200):
        rising = wished(rising, index + 1, 10.0 * (index + 1))

    assert len(falling.highs) == len(rising.lows) == KEPT_MAX
    assert highest_wish(falling, 3600.0, 2000.0) == 500
    assert lowest_wish(rising, 3600.0, 2000.0) == 0


def test_wishes_older_than_the_longest_window_are_dropped() -> None:
    wishes = wished(wished(Wishes(wish=9), 5, 0.0), 7, 10.0)
    later = wished(wishes, 7, 5000.0)

    assert (later.highs, later.lows) == ((), ())


def test_changes_are_bounded_and_old_ones_forgotten() -> None:
    changes: tuple[tuple[float, int], ...] = ((-2000.0, 7),)
    for index in range(200):
        changes = changed(changes, float(index), 1, float(index))

    assert len(changes) == KEPT_MAX
    assert sum(added for _, added in changes) == 200


def test_without_rate_limits_nothing_is_limited_and_disabled_limits_all() -> None:
    free = ScalingRules(tolerance_ratio=0.0, stabilization_window_s=0.0)
    off = replace(free, select_policy=SelectPolicy.DISABLED)

    assert highest_allowed(free, 3, (), 0.0) == math.inf
    assert lowest_allowed(free, 3, (), 0.0) == 0
    assert highest_allowed(off, 3, (), 0.0) == lowest_allowed(off, 3, (), 0.0) == 3


def test_the_ends_of_windows_and_periods_are_known() -> None:
    rules = ScalingRules(
        tolerance_ratio=0.0,
        stabilization_window_s=0.0,
        rate_limits=(RateLimit(type=PolicyType.PODS, value=1, period_s=60.0),),
    )

    assert next_expiry_s(((5.0, 9), (50.0, 4)), 20.0, 30.0) == 70.0
    assert next_expiry_s(((5.0, 9),), 20.0, 30.0) == math.inf
    assert next_period_end_s(rules, ((0.0, 1), (50.0, 1)), 70.0) == 110.0
    assert next_period_end_s(rules, (), 70.0) == math.inf
