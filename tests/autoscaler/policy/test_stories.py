"""Whole stories in virtual time: what a service goes through, and what becomes of its replicas."""

import itertools
from dataclasses import replace

import pytest

from autoscaler.policy.examples import Load, Service, latencies, numbers
from autoscaler.policy.limits import SETTLE_S
from autoscaler.policy.recall import dump, load_or_start
from autoscaler.policy.spec import (
    ForecastSpec,
    LensTargets,
    PolicySpec,
    PolicyType,
    RateLimit,
    ScalingRules,
)
from autoscaler.policy.types import PodPhase, Reason

REACTIVE = PolicySpec(
    replicas_max=10,
    targets=LensTargets(use_learned_capacity=False),
    forecast=ForecastSpec(enabled=False),
)


def quick(**changes: object) -> PolicySpec:
    """A policy whose fleet may shrink after a minute."""
    down = ScalingRules(tolerance_ratio=0.1, stabilization_window_s=60.0)
    return replace(REACTIVE, scale_down=down, **changes)  # type: ignore[arg-type]  # the caller names real fields


def test_a_steady_service_is_left_alone() -> None:
    service = Service(policy=REACTIVE, replicas=2, load=Load(kv_cache_usage=1.3))

    service.run(1200)

    assert numbers(service.decisions) == [2]
    assert service.decisions[-1].reason in {Reason.STEADY, Reason.WITHIN_TOLERANCE}


def test_a_ramp_is_followed_up_and_never_down_on_the_way() -> None:
    service = Service(policy=REACTIVE, replicas=1)
    seen = []
    for step in range(30):
        service.load = Load(kv_cache_usage=0.4 + 0.1 * step, running_requests=8.0 + 2 * step)
        seen += numbers(service.run(20))

    assert seen == sorted(seen)
    assert seen[-1] == 4


def test_a_queue_edge_is_answered_in_the_same_decision() -> None:
    service = Service(policy=REACTIVE, replicas=2)
    service.run(60)
    service.load = Load(waiting_requests=8.0)

    [decision] = service.run(2)

    assert decision.replicas == 4
    assert (decision.reason, decision.binding_lens) == (Reason.FOLLOWING_QUEUE, "queue")


def test_starting_replicas_are_not_ordered_twice() -> None:
    service = Service(policy=REACTIVE, replicas=2, startup_s=120.0)
    service.load = Load(waiting_requests=8.0)

    decisions = service.run(100)

    assert numbers(decisions) == [4]
    assert Reason.STARTING_COUNTED in {step.reason for step in decisions[-1].steps}
    assert decisions[-1].supply.starting == 2


def test_after_a_burst_the_replicas_go_one_by_one_and_only_after_the_window() -> None:
    service = Service(policy=REACTIVE, replicas=1, load=Load(kv_cache_usage=0.5))
    service.run(20)
    service.load = Load(waiting_requests=8.0, kv_cache_usage=1.0)
    service.run(100)
    service.load = Load(kv_cache_usage=0.5)
    calm_at_s = service.now_s

    decisions = service.run(500)

    assert numbers(decisions) == [4, 3, 2, 1]
    assert all(d.replicas == 4 for d in decisions if d.decided_at_s <= calm_at_s + 300)
    shrinking = [d for d in decisions if d.replicas < d.current_replicas]
    assert all(d.victim is not None for d in shrinking)


@pytest.mark.parametrize(
    ("startup_s", "window_s", "gap_s"),
    [
        pytest.param(60.0, 300.0, 60.0, id="one per start-up, as measured"),
        pytest.param(200.0, 300.0, 200.0, id="one per longer start-up"),
        pytest.param(200.0, 120.0, 120.0, id="a window that is shorter is the user's word"),
        pytest.param(60.0, 0.0, SETTLE_S, id="no window: when the last removal shows"),
    ],
)
def test_no_faster_than_one_replica_starts_does_one_leave(startup_s: float, window_s: float, gap_s: float) -> None:
    rules = ScalingRules(tolerance_ratio=0.1, stabilization_window_s=window_s)
    service = Service(policy=replace(REACTIVE, scale_down=rules), replicas=1, startup_s=startup_s)
    service.load = Load(waiting_requests=8.0, kv_cache_usage=1.0)
    service.run(startup_s + 10.0)
    service.load = Load(kv_cache_usage=0.5)

    decisions = service.run(window_s + 3.0 * startup_s + 100.0)

    shrinking = [d for d in decisions if d.replicas < d.current_replicas]
    gaps_s = {b.decided_at_s - a.decided_at_s for a, b in itertools.pairwise(shrinking)}
    assert numbers(decisions)[-3:] == [3, 2, 1]
    assert gaps_s == {gap_s}
    held = [d for d in decisions if d.reason is Reason.ONE_AT_A_TIME and d.replicas == d.current_replicas]
    assert bool(held) == (gap_s > service.period_s)
    assert all("the next one may go, down to" in d.would_change[0] for d in held)


def test_a_burst_after_a_lull_meets_a_fleet_that_is_short_of_little() -> None:
    service = Service(policy=REACTIVE, replicas=8, startup_s=60.0, load=Load(kv_cache_usage=6.0))
    service.run(300)
    service.load = Load(kv_cache_usage=0.5)

    service.run(360)

    assert service.replicas >= 7


def test_one_blind_pod_holds_the_fleet_and_says_so() -> None:
    service = Service(policy=quick(), replicas=3, load=Load(kv_cache_usage=1.3))
    blind = replace(service.observe().pods[0], signals=None)
    service.seen_changes = {"pods": (blind, *service.observe().pods[1:])}
    service.period_s = 2.0

    decision = service.run(2)[0]

    assert decision.replicas == 3
    assert Reason.PARTLY_BLIND in {step.reason for step in decision.steps}
    assert decision.supply.blind == 1


def test_when_all_pods_are_blind_nothing_moves_however_long() -> None:
    service = Service(policy=quick(), replicas=4, load=Load(kv_cache_usage=3.0))
    service.run(60)
    service.blind = True
    service.load = Load(**{"kv_cache_usage": 0.0})
    service.run(30)

    decisions = service.run(3600)

    assert numbers(decisions) == [4]
    assert decisions[-1].reason is Reason.NO_FRESH_DATA
    assert decisions[-1].supply.blind == 4


def test_a_blind_fleet_still_grows_for_what_waits_upstream() -> None:
    service = Service(policy=REACTIVE, replicas=2, load=Load(upstream_waiting_requests=0.0))
    service.run(60)
    service.blind = True
    service.run(60)
    service.load = Load(upstream_waiting_requests=6.0)

    [decision] = service.run(2)

    assert decision.replicas == 3


def test_a_stuck_gauge_is_blind_not_idle() -> None:
    service = Service(policy=quick(), replicas=3, load=Load(kv_cache_usage=2.0))
    service.run(60)
    service.load = Load(kv_cache_usage=0.1)
    service.sample_changes = {"stalled_for_s": 45.0}

    decisions = service.run(1200)

    assert numbers(decisions) == [3]
    assert decisions[-1].reason is Reason.NO_FRESH_DATA


def test_renamed_series_are_blind_although_the_page_is_fresh() -> None:
    service = Service(policy=quick(), replicas=3, load=Load(kv_cache_usage=2.0))
    service.run(60)
    service.sample_changes = {
        "running_requests": None,
        "waiting_requests": None,
        "kv_cache_usage_ratio": None,
        "prompt_tokens_per_s": None,
        "generation_tokens_per_s": None,
        "ttft_s": None,
    }

    decisions = service.run(1200)

    assert numbers(decisions) == [3]
    assert decisions[-1].reason is Reason.NO_FRESH_DATA
    assert {lens.name: lens.note for lens in decisions[-1].lenses}["kv_cache"] == "no replica has a fresh sample of it"


def test_one_renamed_series_vetoes_the_scale_in_and_is_named() -> None:
    service = Service(policy=quick(), replicas=3, load=Load(kv_cache_usage=0.1))
    service.sample_changes = {"waiting_requests": None}

    decisions = service.run(600)

    assert numbers(decisions) == [3]
    assert decisions[-1].reason is Reason.PARTLY_BLIND
    assert "queue" in decisions[-1].steps[-1].detail


def test_a_pod_stuck_starting_is_replaced_once_after_its_p95() -> None:
    policy = replace(REACTIVE, lead_time_prior_s=60.0)
    service = Service(policy=policy, replicas=2)
    service.run(20)
    service.phase_of_new = PodPhase.STARTING
    service.load = Load(waiting_requests=6.0)
    asked_at_s = service.now_s + service.period_s

    decisions = service.run(600)

    assert numbers(decisions) == [3, 4]
    first = next(d for d in decisions if d.replicas == 4)
    assert first.decided_at_s == pytest.approx(asked_at_s + 60.0 * 1.88, abs=2.0)
    assert first.reason is Reason.STARTING_OVERDUE
    assert decisions[-1].supply.overdue == 2


def test_the_only_replica_that_never_starts_gets_one_more() -> None:
    service = Service(policy=replace(REACTIVE, lead_time_prior_s=60.0), replicas=0)
    service.phase_of_new = PodPhase.STARTING
    service.scale_to(1)

    decisions = service.run(1200)

    assert numbers(decisions) == [1, 2]
    assert decisions[-1].reason is Reason.NO_FRESH_DATA


@pytest.mark.parametrize("phase", [PodPhase.UNSCHEDULABLE, PodPhase.GATED])
def test_pods_without_a_node_are_no_supply_and_not_ordered_again(phase: PodPhase) -> None:
    service = Service(policy=REACTIVE, replicas=2, phase_of_new=None)
    service.run(20)
    service.phase_of_new = phase
    service.load = Load(waiting_requests=8.0)

    decisions = service.run(600)

    assert numbers(decisions) == [4]
    assert decisions[-1].reason is Reason.STARTING_OVERDUE
    assert decisions[-1].supply.overdue == 2


def test_growth_stops_where_the_free_gpus_end() -> None:
    service = Service(policy=REACTIVE, replicas=2)
    service.seen_changes = {"schedulable_replicas": 1}
    service.load = Load(waiting_requests=20.0)

    decision = service.run(2)[0]

    assert (decision.replicas, decision.reason) == (3, Reason.NOT_SCHEDULABLE)
    assert "free GPUs for 7 more would let it grow to 10" in decision.would_change


def test_a_restart_in_the_middle_of_a_ramp_costs_no_replica() -> None:
    service = Service(policy=quick(), replicas=2, load=Load(waiting_requests=8.0, kv_cache_usage=2.5))
    service.run(100)
    before = service.decisions[-1].replicas
    service.memory = None
    service.load = Load(kv_cache_usage=0.5)

    decisions = service.run(58)

    assert numbers(decisions) == [before]


def test_a_new_leader_reads_the_memory_and_goes_on() -> None:
    service = Service(policy=quick(), replicas=2, load=Load(waiting_requests=8.0, kv_cache_usage=2.5))
    service.run(200)
    assert service.memory is not None
    saved = dump(service.memory)
    service.memory, problem = load_or_start(saved, replicas=service.replicas, now_s=service.now_s + 40)
    service.now_s += 40

    decisions = service.run(58)

    assert problem == ""
    assert numbers(decisions) == [4]
    assert decisions[-1].lead_times[0].starts == 2


def test_growth_keeps_to_the_rate() -> None:
    rules = ScalingRules(
        tolerance_ratio=0.1,
        stabilization_window_s=0.0,
        rate_limits=(RateLimit(type=PolicyType.PODS, value=2, period_s=60.0),),
    )
    service = Service(policy=replace(REACTIVE, scale_up=rules), replicas=1, load=Load(waiting_requests=20.0))

    decisions = service.run(200)

    grown = [d for d in decisions if d.replicas > d.current_replicas]
    assert [d.replicas for d in grown] == [3, 5, 7, 9]
    assert [b.decided_at_s - a.decided_at_s for a, b in itertools.pairwise(grown)] == [60.0, 60.0, 60.0]
    assert grown[0].reason is Reason.RATE_UP


@pytest.mark.parametrize(
    ("usage", "replicas", "reason"),
    [
        pytest.param(1.75, 2, Reason.WITHIN_TOLERANCE, id="just under the upper tolerance"),
        pytest.param(1.77, 3, Reason.FOLLOWING_KV_CACHE, id="just over it"),
        pytest.param(0.73, 2, Reason.WITHIN_TOLERANCE, id="one replica would be over the target less tolerance"),
        pytest.param(0.71, 1, Reason.FOLLOWING_KV_CACHE, id="one replica would do"),
    ],
)
def test_tolerance_keeps_small_differences_from_moving_anything(usage: float, replicas: int, reason: Reason) -> None:
    rules = ScalingRules(tolerance_ratio=0.1, stabilization_window_s=0.0)
    service = Service(policy=replace(REACTIVE, scale_down=rules), replicas=2, load=Load(kv_cache_usage=usage))

    decision = service.run(2)[0]

    assert decision.replicas == replicas
    assert decision.steps[0].reason is reason or decision.reason is Reason.STEADY


def test_a_latency_over_its_objective_grows_the_fleet_and_then_waits_for_the_growth_to_show() -> None:
    policy = replace(REACTIVE, targets=LensTargets(queue_requests=None, use_learned_capacity=False))
    service = Service(policy=policy, replicas=2, startup_s=20.0, load=Load(running_requests=40.0))
    service.sample_changes = {"ttft_s": latencies(requests=100, mean_s=2.0)}

    decisions = service.run(48)

    assert numbers(decisions) == [4]
    assert decisions[0].reason is Reason.FOLLOWING_TTFT


def test_capacity_is_learned_from_saturated_windows_and_then_holds_the_fleet() -> None:
    policy = quick(targets=LensTargets())
    service = Service(policy=policy, replicas=2, load=Load(waiting_requests=6.0, tokens_per_s=4000.0))
    service.sample_changes = {"ttft_s": latencies(requests=100.0, mean_s=0.6)}
    service.run(300)
    learned = service.decisions[-1].capacity

    assert learned.windows >= 3
    assert learned.tokens_per_s == pytest.approx(4000 / 3, rel=0.35)
    assert learned.regime == "batch"


def test_lead_times_are_learned_from_starts_that_were_watched() -> None:
    service = Service(policy=REACTIVE, replicas=1, startup_s=45.0, load=Load(waiting_requests=4.0))

    service.run(120)

    [learned] = service.decisions[-1].lead_times
    assert (learned.node_class, learned.starts, learned.p50_s) == ("H100", 1, 45.0)
