"""A leader dies and another takes over with what was saved last, beside a twin that nobody killed.

It grows as the twin would have within one decision, and never shrinks before the twin.
"""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policy.behavior import Change
from autoscaler.policy.examples import Load, Service, starting
from autoscaler.policy.memory import UNWATCHED_S, Memory, caught_up
from autoscaler.policy.recall import dump, load
from autoscaler.policy.spec import ForecastSpec, LensTargets, PolicySpec, PolicyType, RateLimit, ScalingRules
from autoscaler.policy.types import Observation, PodPhase, Reason

NOW_S = 1_000_000.0
# What was learned is saved once a minute, and a lease is taken over a quarter of a minute after its holder died.
SAVED_EVERY_S, TAKEN_OVER_S = 60.0, 15.0


def policy(rate: RateLimit) -> PolicySpec:
    """Few enough a period that a burst takes several; a fleet that shrinks after two minutes."""
    return PolicySpec(
        replicas_max=40,
        targets=LensTargets(use_learned_capacity=False),
        forecast=ForecastSpec(enabled=False),
        scale_up=ScalingRules(tolerance_ratio=0.1, stabilization_window_s=0.0, rate_limits=(rate,)),
        scale_down=ScalingRules(tolerance_ratio=0.1, stabilization_window_s=120.0),
    )


ONE_IN_15_S = policy(RateLimit(type=PolicyType.PODS, value=1, period_s=15.0))
FOUR_A_MINUTE = policy(RateLimit(type=PolicyType.PODS, value=4, period_s=60.0))
DOUBLE_IN_30_S = policy(RateLimit(type=PolicyType.PERCENT, value=100, period_s=30.0))


class Pair:
    """Two services under the same load: one whose leader dies, one whose leader does not."""

    def __init__(self, spec: PolicySpec) -> None:
        self.killed = Service(policy=spec, replicas=2, load=Load(kv_cache_usage=1.2))
        self.twin = deepcopy(self.killed)
        self.saved: dict[str, object] = {}
        self._saved_at_s = -SAVED_EVERY_S

    def run(self, duration_s: float, load: Load) -> None:
        """Both live, and what was learned is saved now and then."""
        for _ in range(int(duration_s / self.killed.period_s)):
            self.killed.load = self.twin.load = load
            self.killed.run(self.killed.period_s)
            self.twin.run(self.twin.period_s)
            if self.killed.now_s - self._saved_at_s >= SAVED_EVERY_S:
                assert self.killed.memory is not None
                self.saved, self._saved_at_s = dump(self.killed.memory), self.killed.now_s

    def kill(self, away_s: float, load: Load) -> None:
        """For a while nobody decides; then somebody does who has read what was saved."""
        self.killed.load = self.twin.load = load
        self.twin.run(away_s)
        self.killed.now_s += away_s
        self.killed.memory = None
        if self.saved:
            self.killed.memory = load_saved(self.saved, self.killed.now_s)

    @property
    def numbers(self) -> tuple[int, int]:
        """Of the one that was killed, and of its twin."""
        return self.killed.replicas, self.twin.replicas


def load_saved(saved: dict[str, object], now_s: float) -> Memory:
    return load(json.loads(json.dumps(saved)), now_s=now_s)


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(ONE_IN_15_S, id="one pod in 15 s"),
        pytest.param(FOUR_A_MINUTE, id="four pods a minute"),
        pytest.param(DOUBLE_IN_30_S, id="double in 30 s"),
    ],
)
@pytest.mark.parametrize("grown_for_s", [2, 14, 16, 30, 58, 60, 74])
def test_a_new_leader_goes_on_with_a_burst_as_the_old_one_would_have(spec: PolicySpec, grown_for_s: float) -> None:
    pair, burst = Pair(spec), Load(waiting_requests=40.0, kv_cache_usage=1.2)
    pair.run(150, Load(kv_cache_usage=1.2))
    pair.run(grown_for_s, burst)

    pair.kill(0.0, burst)
    for _ in range(40):
        pair.run(2, burst)
        assert pair.killed.replicas == pair.twin.replicas
    assert pair.twin.replicas > 5


def test_who_takes_over_after_a_lease_ran_out_has_missed_no_more_than_the_periods_that_passed() -> None:
    pair, burst = Pair(ONE_IN_15_S), Load(waiting_requests=40.0, kv_cache_usage=1.2)
    pair.run(150, Load(kv_cache_usage=1.2))
    pair.run(30, burst)
    assert pair.numbers == (4, 4)

    pair.kill(TAKEN_OVER_S, burst)
    pair.run(2, burst)

    assert pair.numbers == (5, 5)


loads = st.builds(
    Load,
    waiting_requests=st.sampled_from([0.0, 0.0, 3.0, 9.0, 30.0]),
    kv_cache_usage=st.sampled_from([0.2, 0.8, 1.9, 3.5]),
)


@settings(max_examples=40, deadline=None)
@given(
    spec=st.sampled_from([ONE_IN_15_S, FOUR_A_MINUTE, DOUBLE_IN_30_S]),
    before=st.lists(st.tuples(st.integers(2, 100), loads), min_size=1, max_size=6),
    away_s=st.sampled_from([0.0, 2.0, TAKEN_OVER_S]),
    after=st.lists(st.tuples(st.integers(2, 60), loads), min_size=1, max_size=4),
)
def test_a_new_leader_never_shrinks_before_the_old_one_would_have(
    spec: PolicySpec, before: list[tuple[int, Load]], away_s: float, after: list[tuple[int, Load]]
) -> None:
    pair = Pair(spec)
    for duration_s, given_load in before:
        pair.run(duration_s, given_load)
    at_s, had = pair.killed.now_s, pair.killed.replicas

    pair.kill(away_s, before[-1][1])
    for duration_s, given_load in after:
        for _ in range(duration_s // 2):
            pair.run(2, given_load)
            if pair.killed.now_s - at_s < spec.scale_down.stabilization_window_s:
                assert pair.killed.replicas >= min(had, pair.twin.replicas)


def seen(replicas: int, *created_at_s: float, phase: PodPhase = PodPhase.STARTING) -> Observation:
    pods = tuple(starting(f"pod-{index}", created_at_s=at_s, phase=phase) for index, at_s in enumerate(created_at_s))
    return Observation(service="prod/llama", replicas=replicas, pods=pods)


@pytest.mark.parametrize(
    ("observation", "booked"),
    [
        pytest.param(seen(4, -500, -400, -12, -7), ((-12.0, 1), (-7.0, 1)), id="by their pods"),
        pytest.param(seen(5, -500, -400, -12, -7, -7), ((-12.0, 1), (-7.0, 2)), id="two of one moment"),
        pytest.param(seen(4, -500, -400, -7), ((-7.0, 1), (0.0, 1)), id="one has no pod yet: now"),
        pytest.param(seen(4, -500, -400), ((0.0, 2),), id="none has: now"),
        pytest.param(seen(4), ((0.0, 2),), id="no pod is seen: now"),
        pytest.param(seen(4, -9, -8, -7, 3), ((-7.0, 1), (0.0, 1)), id="of a clock that is ahead: now"),
        pytest.param(seen(4, -9, -8, -7, -6, phase=PodPhase.TERMINATING), ((0.0, 2),), id="those that leave are none"),
    ],
)
def test_what_was_added_since_the_memory_was_saved_is_booked_when_its_pods_came(
    observation: Observation, booked: tuple[Change, ...]
) -> None:
    pods = tuple(replace(pod, created_at_s=NOW_S + pod.created_at_s) for pod in observation.pods)
    restored = load_saved(dump(Memory.start(2, NOW_S - 40.0)), NOW_S)

    memory = caught_up(restored, replace(observation, pods=pods), NOW_S)

    assert memory.changes == tuple((NOW_S + at_s, added) for at_s, added in booked)
    assert memory.requested_at_s == memory.changes[-1][0]


def test_what_somebody_took_away_since_then_is_booked_now() -> None:
    restored = load_saved(dump(Memory.start(4, NOW_S - 40.0)), NOW_S)

    memory = caught_up(restored, seen(3, NOW_S - 500, NOW_S - 400, NOW_S - 300), NOW_S)

    assert (memory.changes, memory.shrunk_at_s) == (((NOW_S, -1),), NOW_S)


@pytest.mark.parametrize(
    ("gap_s", "goes_on"),
    [
        pytest.param(0.0, True, id="at once"),
        pytest.param(UNWATCHED_S, True, id="at the limit"),
        pytest.param(UNWATCHED_S + 1.0, False, id="just over: that time is taken out"),
        pytest.param(-1.0, False, id="saved by a clock that is ahead"),
    ],
)
def test_a_memory_goes_on_from_when_it_was_saved(gap_s: float, goes_on: bool) -> None:
    lived = replace(Memory.start(4, NOW_S), changes=((NOW_S - 20.0, 2),), shrunk_at_s=NOW_S - 100.0)

    read = load_saved(dump(lived), NOW_S + gap_s)

    at_s = NOW_S if goes_on else NOW_S + gap_s
    assert read.decided_at_s == at_s
    assert read.changes == ((at_s - 20.0, 2),)
    assert read.shrunk_at_s == at_s - 100.0


def test_a_memory_saved_before_it_said_when_is_read_as_of_now() -> None:
    saved = dump(Memory.start(4, NOW_S))
    del saved["savedAt"]

    assert load_saved(saved, NOW_S + 30.0).decided_at_s == NOW_S + 30.0


def test_time_in_which_nobody_watched_is_not_idle_time() -> None:
    idle = replace(Memory.start(1, NOW_S), idle_since_s=NOW_S - 500.0)

    assert load_saved(dump(idle), NOW_S + 75.0).idle_since_s == NOW_S - 500.0 + 75.0


def test_patience_after_too_much_trust_outlives_a_leader() -> None:
    """Or each new leader would try again at once what its predecessor had just taken back."""
    lived = Memory.start(4, NOW_S)
    known = replace(
        lived.capacity,
        learned_at_s=NOW_S - 80.0,
        demonstrated_at_s=NOW_S - 600.0,
        looked_at_s=NOW_S - 30.0,
        over_at_s=NOW_S - 900.0,
    )

    read = load_saved(dump(replace(lived, capacity=known)), NOW_S + 40.0).capacity

    assert (read.learned_at_s, read.demonstrated_at_s) == (NOW_S - 80.0, NOW_S - 600.0)
    assert (read.looked_at_s, read.over_at_s) == (NOW_S - 30.0, NOW_S - 900.0)


def test_what_a_young_service_never_saw_is_as_unknown_to_the_next_leader() -> None:
    read = load_saved(dump(Memory.start(4, NOW_S)), NOW_S).capacity

    assert (read.looked_at_s, read.over_at_s) == (-float("inf"), -float("inf"))


def test_after_a_change_of_leaders_the_rate_limit_still_holds_what_it_must() -> None:
    pair, burst = Pair(ONE_IN_15_S), Load(waiting_requests=40.0, kv_cache_usage=1.2)
    pair.run(150, Load(kv_cache_usage=1.2))
    pair.run(34, burst)

    pair.kill(0.0, burst)
    pair.run(2, burst)

    assert pair.killed.decisions[-1].reason is Reason.RATE_UP
    assert pair.numbers == (5, 5)
