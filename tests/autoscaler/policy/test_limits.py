"""Bounds, victims, and the sentences that say what would change the answer."""

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from autoscaler.policy.decide import decide
from autoscaler.policy.examples import Load, Service, fleet, latencies, numbers, ready, signals, starting
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import (
    ForecastSpec,
    LensTargets,
    PolicySpec,
    PolicyType,
    RateLimit,
    ScalingRules,
    SelectPolicy,
)
from autoscaler.policy.types import Decision, Observation, PodPhase, Reason

NOW_S = 1_000_000.0
SPEC = PolicySpec(targets=LensTargets(use_learned_capacity=False), forecast=ForecastSpec(enabled=False))
AT_ONCE = replace(SPEC, scale_down=replace(SPEC.scale_down, stabilization_window_s=0.0))


def decided(seen: Observation, spec: PolicySpec = AT_ONCE) -> Decision:
    return decide(seen, spec, Memory.start(seen.replicas, NOW_S - 1000), now_s=NOW_S)[0]


def calm(replicas: int) -> Observation:
    return fleet([signals(NOW_S, kv_cache_usage_ratio=0.01)] * replicas)


@pytest.mark.parametrize(
    ("low", "high", "native", "bounds"),
    [
        pytest.param(None, None, (None, None), (1, 10), id="nobody says anything"),
        pytest.param(None, None, (2, 5), (2, 5), id="the service's own"),
        pytest.param(3, 4, (2, 5), (3, 4), id="the policy's before the service's"),
        pytest.param(None, None, (0, 0), (1, 10), id="KServe's 0 is no upper bound, and zero was not asked for"),
        pytest.param(6, None, (None, 5), (6, 6), id="a lower bound above the upper one wins"),
        pytest.param(None, None, (-1, 3), (1, 3), id="a negative bound is none"),
    ],
)
def test_bounds_come_from_policy_service_and_defaults(
    low: int | None, high: int | None, native: tuple[int | None, int | None], bounds: tuple[int, int]
) -> None:
    spec = replace(AT_ONCE, replicas_min=low, replicas_max=high)

    decision = decided(replace(calm(4), native_min=native[0], native_max=native[1]), spec)

    assert (decision.replicas_min, decision.replicas_max) == bounds


@pytest.mark.parametrize(("read_after_s", "goes"), [(-2.0, False), (1.0, True)], ids=["read before", "read since"])
def test_the_next_one_goes_only_when_every_other_was_read_since_the_last(read_after_s: float, goes: bool) -> None:
    _, memory = decide(calm(4), AT_ONCE, Memory.start(4, NOW_S - 1000), now_s=NOW_S)
    gone_at_s = NOW_S + 1.0
    _, memory = decide(fleet([signals(gone_at_s, kv_cache_usage_ratio=0.01)] * 3), AT_ONCE, memory, now_s=gone_at_s)
    late = signals(gone_at_s + read_after_s, kv_cache_usage_ratio=0.01)
    read = signals(gone_at_s + 5.0, kv_cache_usage_ratio=0.01)

    decision, _ = decide(fleet([read, read, late]), AT_ONCE, memory, now_s=gone_at_s + 10.0)

    assert decision.replicas == (2 if goes else 3)


def test_a_fleet_above_its_maximum_goes_there_at_once() -> None:
    decision = decided(replace(calm(6), native_max=2))

    assert decision.replicas == 2


def test_a_schedule_beyond_the_maximum_ends_there() -> None:
    decision = decided(replace(calm(1), schedule_floor=50))

    assert (decision.replicas, decision.reason) == (10, Reason.SCHEDULE_FLOOR)


def test_free_gpus_are_not_counted_twice_while_pods_take_them() -> None:
    seen = fleet([signals(NOW_S, waiting_requests=20.0)] * 2, replicas=4, schedulable_replicas=2)

    assert decided(seen).replicas == 4


def test_a_lower_bound_is_asked_for_even_without_free_gpus() -> None:
    seen = replace(calm(1), native_min=3, schedulable_replicas=0)

    assert decided(seen).replicas == 3


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_disabled_direction_stays_and_says_so(direction: str) -> None:
    off = replace(SPEC.scale_up, select_policy=SelectPolicy.DISABLED, stabilization_window_s=0.0)
    spec = replace(AT_ONCE, scale_up=off) if direction == "up" else replace(AT_ONCE, scale_down=off)
    seen = fleet([signals(NOW_S, waiting_requests=9.0)] * 2) if direction == "up" else calm(2)

    decision = decided(seen, spec)

    assert (decision.replicas, decision.reason) == (2, Reason.SCALING_DISABLED)


def test_an_up_window_waits_for_the_lowest_wish() -> None:
    spec = replace(AT_ONCE, scale_up=replace(SPEC.scale_up, stabilization_window_s=60.0))

    decision = decided(fleet([signals(NOW_S, waiting_requests=9.0)] * 2), spec)

    assert (decision.replicas, decision.reason) == (2, Reason.STABILIZING_UP)
    assert "the stabilization window lets it rise towards 6 in 60 s" in decision.would_change


def test_the_emptiest_replica_goes_first() -> None:
    samples = [signals(NOW_S, running_requests=requests, kv_cache_usage_ratio=0.01) for requests in (5.0, 1.0, 3.0)]

    assert decided(fleet(list(samples))).victim == "pod-1"


def test_of_equally_empty_replicas_the_youngest_goes() -> None:
    pods = tuple(
        ready(f"pod-{age}", signals(NOW_S, kv_cache_usage_ratio=0.01), since_s=-age) for age in (300.0, 100.0, 200.0)
    )

    assert decided(Observation(service="prod/llama", replicas=3, pods=pods)).victim == "pod-100.0"


def test_what_serves_nothing_goes_before_what_serves() -> None:
    late = starting("late", created_at_s=NOW_S - 1000)
    young, younger = starting("young", created_at_s=NOW_S - 20), starting("younger", created_at_s=NOW_S - 10)
    serving = ready("serving", signals(NOW_S, kv_cache_usage_ratio=0.01))

    first = decided(Observation(service="prod/llama", replicas=4, pods=(serving, young, younger, late)))
    second = decided(Observation(service="prod/llama", replicas=3, pods=(serving, young, younger)))

    assert (first.victim, second.victim) == ("late", "younger")


def test_a_blind_replica_is_the_last_to_go() -> None:
    seen = replace(calm(3), native_max=2)
    blind = replace(seen.pods[0], signals=None)

    assert decided(replace(seen, pods=(blind, *seen.pods[1:]))).victim == "pod-1"
    assert decided(replace(seen, pods=tuple(replace(pod, signals=None) for pod in seen.pods))).victim == "pod-0"


def test_a_surplus_that_holds_the_last_warm_copy_is_spared() -> None:
    late, later = starting("late", created_at_s=NOW_S - 1000), starting("later", created_at_s=NOW_S - 900)
    serving = ready("serving", signals(NOW_S, kv_cache_usage_ratio=0.01))
    seen = Observation(
        service="prod/llama",
        replicas=3,
        pods=(serving, late, later),
        last_warm_copies=frozenset({"late"}),
    )

    assert decided(seen).victim == "later"


def test_the_next_victim_waits_until_the_last_one_has_left() -> None:
    leaving = starting("leaving", created_at_s=NOW_S - 900, phase=PodPhase.TERMINATING)
    seen = calm(4)
    _, memory = decide(seen, AT_ONCE, Memory.start(4, NOW_S - 1000), now_s=NOW_S)
    three = replace(seen, replicas=3, pods=(*seen.pods[:3], leaving))

    waiting, memory = decide(three, AT_ONCE, memory, now_s=NOW_S + 20)
    gone, _ = decide(replace(three, pods=three.pods[:3]), AT_ONCE, memory, now_s=NOW_S + 25)

    assert (waiting.replicas, waiting.reason) == (3, Reason.ONE_AT_A_TIME)
    assert gone.replicas == 2


def test_a_pod_that_never_leaves_holds_up_the_others_for_ten_minutes_only() -> None:
    leaving = starting("leaving", created_at_s=NOW_S - 900, phase=PodPhase.TERMINATING)
    seen = calm(4)
    _, memory = decide(seen, AT_ONCE, Memory.start(4, NOW_S - 1000), now_s=NOW_S)

    def three(at_s: float) -> Observation:
        samples = [signals(at_s, kv_cache_usage_ratio=0.01)] * 3
        return replace(fleet(list(samples)), pods=(*fleet(list(samples)).pods, leaving))

    before, memory = decide(three(NOW_S + 599), AT_ONCE, memory, now_s=NOW_S + 599)
    after, _ = decide(three(NOW_S + 600), AT_ONCE, memory, now_s=NOW_S + 600)

    assert (before.replicas, after.replicas) == (3, 2)


def rates(direction: str) -> PolicySpec:
    rules = ScalingRules(
        tolerance_ratio=0.1,
        stabilization_window_s=0.0,
        rate_limits=(RateLimit(type=PolicyType.PODS, value=1, period_s=60.0),),
    )
    return replace(AT_ONCE, scale_up=rules) if direction == "up" else replace(AT_ONCE, scale_down=rules)


def test_sentences_say_what_would_change_the_answer() -> None:
    busy = fleet([signals(NOW_S, waiting_requests=4.0)] * 2)
    held = fleet([signals(NOW_S, kv_cache_usage_ratio=0.01)] * 3)
    memory = Memory.start(3, NOW_S - 100)
    stabilizing, _ = decide(held, SPEC, memory, now_s=NOW_S)

    assert decided(fleet([signals(NOW_S)] * 2)).would_change == (
        "5 more waiting requests would ask for 3",
        "kv_cache above 0.88 used share per replica would ask for 3",
    )
    assert "the stabilization window lets it fall towards 1 in 300 s" in stabilizing.would_change
    assert "a larger GPU budget would let it grow to 4" in decided(replace(busy, budget_replicas=3)).would_change
    assert "a maximum of 4 would let it grow to 4" in decided(replace(busy, native_max=3)).would_change
    assert "a minimum of 1 would let it fall to 1" in decided(replace(held, native_min=2)).would_change
    assert "each replica that has left lets the next one go, down to 1" in decided(held).would_change
    assert "without the pause it would go towards 4" in decided(busy, replace(SPEC, paused=True)).would_change
    assert "the scale-up rate lets it go on towards 4 with the next decision" in decided(busy, rates("up")).would_change


def test_the_rates_of_changes_made_say_when_they_end() -> None:
    for direction, seen in (("up", fleet([signals(NOW_S, waiting_requests=4.0)] * 2)), ("down", calm(5))):
        spec = rates(direction)
        first, memory = decide(seen, spec, Memory.start(seen.replicas, NOW_S - 1000), now_s=NOW_S)
        samples = [pod.signals and replace(pod.signals, observed_at_s=NOW_S + 20) for pod in seen.pods]
        later = fleet(samples[: first.replicas], replicas=first.replicas)

        second, _ = decide(later, spec, memory, now_s=NOW_S + 20)

        assert second.replicas == first.replicas
        assert any("in 40 s" in sentence for sentence in second.would_change), direction


def test_a_lens_that_needs_more_than_any_cluster_has_says_nothing() -> None:
    spec = replace(SPEC, replicas_max=None)
    seen = Observation(service="prod/llama", replicas=200_000, pods=calm(1).pods)

    assert all("would ask for" not in sentence for sentence in decided(seen, spec).would_change)


def test_without_a_number_in_the_latency_its_note_is_told() -> None:
    nothing = LensTargets(queue_requests=None, kv_cache_usage_ratio=None, use_learned_capacity=False)
    seen = fleet([signals(NOW_S, ttft_s=latencies(requests=5, mean_s=9.0))] * 2)

    decision = decided(seen, replace(AT_ONCE, targets=nothing))

    assert decision.steps[0].detail == "ttft: 10 observations in the window, 20 needed"
    assert decision.replicas == 2


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RateLimit(type=PolicyType.PODS, value=0, period_s=15.0), "got 0 in 15.0 s"),
        (lambda: RateLimit(type=PolicyType.PODS, value=1, period_s=1801.0), "got 1 in 1801.0 s"),
        (lambda: ScalingRules(tolerance_ratio=1.0, stabilization_window_s=0.0), "tolerance must be in [0, 1), got 1.0"),
        (lambda: ScalingRules(tolerance_ratio=0.1, stabilization_window_s=3601.0), "got 3601.0"),
        (lambda: PolicySpec(replicas_min=-1), "replicas.min must be ≥ 0, got -1"),
        (lambda: PolicySpec(replicas_max=0), "replicas.max must be ≥ 1, got 0"),
        (lambda: PolicySpec(replicas_min=3, replicas_max=2), "replicas.min (3) must not exceed replicas.max (2)"),
        (lambda: PolicySpec(lead_time_prior_s=0.0), "leadTimePriorSeconds must be > 0, got 0.0"),
        (lambda: PolicySpec(pinned_replicas=-1), "pinnedReplicas must be ≥ 0, got -1"),
    ],
)
def test_a_policy_in_a_bad_state_cannot_be_built(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


def test_an_operator_pin_is_reached_at_once_and_a_pause_stops_everything() -> None:
    service = Service(policy=replace(SPEC, pinned_replicas=7), replicas=2)
    [pinned] = service.run(2)
    service.policy = replace(SPEC, paused=True)
    service.load = Load(waiting_requests=50.0)

    decisions = service.run(60)

    assert (pinned.replicas, pinned.reason) == (7, Reason.PINNED)
    assert numbers(decisions) == [7]
    assert decisions[-1].reason is Reason.PAUSED


def test_the_last_warm_copy_stays() -> None:
    service = Service(
        policy=AT_ONCE,
        replicas=3,
        load=Load(kv_cache_usage=0.1),
    )
    service.seen_changes = {"last_warm_copies": frozenset({"pod-1", "pod-2"})}

    decisions = service.run(600)

    assert numbers(decisions) == [2]
    assert decisions[-1].reason is Reason.LAST_WARM_COPY
    assert {pod.name for pod in service.observe().pods} == {"pod-1", "pod-2"}


def test_the_schedule_and_the_budget_move_the_bounds() -> None:
    service = Service(policy=SPEC, replicas=1)
    service.seen_changes = {"schedule_floor": 6}
    [lifted] = service.run(2)
    service.seen_changes = {"schedule_floor": 6, "budget_replicas": 4}
    [cut] = service.run(2)

    assert (lifted.replicas, lifted.reason) == (6, Reason.SCHEDULE_FLOOR)
    assert (cut.replicas, cut.reason) == (4, Reason.GPU_BUDGET)


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0], ids=["an hour back", "an hour on"])
def test_a_clock_that_jumps_by_an_hour_costs_no_replica(jump_s: float) -> None:
    service = Service(policy=SPEC, replicas=4, load=Load(kv_cache_usage=3.0))
    service.run(60)
    service.load = Load(kv_cache_usage=0.2)
    service.run(10)
    service.now_s += jump_s

    decisions = service.run(280)

    assert numbers(decisions) == [4]
    assert service.memory is not None
    assert isinstance(service.memory, Memory)
