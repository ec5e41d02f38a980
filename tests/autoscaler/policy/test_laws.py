"""The laws of `decide`, for any input."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoscaler.policy.decide import decide
from autoscaler.policy.examples import latencies
from autoscaler.policy.forecast import MATURED_MIN, TREND, ForecastRecord, OpenBin, Outlook, Score
from autoscaler.policy.memory import Memory
from autoscaler.policy.recall import dump, load
from autoscaler.policy.spec import (
    ForecastSpec,
    LensTargets,
    Objectives,
    PolicySpec,
    PolicyType,
    RateLimit,
    ScalingRules,
    SelectPolicy,
    ZeroSpec,
)
from autoscaler.policy.types import Observation, PodPhase, PodSeen, Reason, Tier
from metrics.sample import PodSignals

NOW_S = 1_000_000.0
COMMON = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

counts = st.integers(0, 500).map(float)
rates = st.floats(0, 1e6)


def maybe(strategy: st.SearchStrategy[float]) -> st.SearchStrategy[float | None]:
    return st.one_of(st.none(), strategy)


ages_s = st.sampled_from([0.0, 2.0, 29.0, 31.0, -40.0, -5.0, 300.0])
series = ("running", "waiting", "kv", "prompt", "generation", "finished", "ttft")


@st.composite
def samples(draw: st.DrawFn) -> PodSignals:
    """Usually complete and fresh; sometimes late, early, partial, stuck or asleep."""
    running, waiting, tokens = draw(counts), draw(counts), draw(rates)
    missing = draw(st.sampled_from([(), (), (), *[(name,) for name in series], series]))
    mean_s = draw(st.sampled_from([0.1, 0.8, 1.1, 5.0]))
    condition = draw(st.sampled_from(["well"] * 6 + ["stuck", "asleep"]))
    return PodSignals(
        observed_at_s=NOW_S - draw(ages_s),
        window_s=draw(st.sampled_from([30.0, 0.0])),
        running_requests=None if "running" in missing else running,
        waiting_requests=None if "waiting" in missing else waiting,
        kv_cache_usage_ratio=None if "kv" in missing else draw(st.floats(0, 1)),
        prompt_tokens_per_s=None if "prompt" in missing else tokens,
        generation_tokens_per_s=None if "generation" in missing else tokens / 4,
        finished_requests_per_s=None if "finished" in missing else tokens / 1000,
        ttft_s=None if "ttft" in missing else latencies(requests=50, mean_s=mean_s),
        stalled_for_s=60.0 if condition == "stuck" else 0.0,
        is_awake=condition != "asleep",
    )


@st.composite
def pods(draw: st.DrawFn, name: str) -> PodSeen:
    phase = draw(st.sampled_from([PodPhase.READY] * 4 + list(PodPhase)))
    created_at_s = NOW_S - draw(st.sampled_from([5.0, 60.0, 250.0, 2000.0]))
    return PodSeen(
        name=name,
        phase=phase,
        created_at_s=created_at_s,
        ready_at_s=created_at_s + 50 if phase is PodPhase.READY else None,
        node_class="H100",
        tier=Tier.WARM,
        signals=draw(samples()) if phase is PodPhase.READY else None,
    )


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    made = draw(st.integers(0, 4))
    return Observation(
        service="prod/llama",
        replicas=draw(st.one_of(st.just(made), st.integers(0, 8))),
        pods=tuple(draw(pods(f"pod-{index}")) for index in range(made)),
        native_min=draw(st.sampled_from([None, 0, 1, 3])),
        native_max=draw(st.sampled_from([None, 0, 2, 6])),
        schedule_floor=draw(st.sampled_from([None, None, 0, 4])),
        upstream_waiting_requests=draw(maybe(counts)),
        upstream_observed_at_s=draw(st.sampled_from([None, NOW_S, NOW_S - 1000])),
        upstream_problem=draw(st.sampled_from(["", "Prometheus is away"])),
        schedulable_replicas=draw(st.sampled_from([None, None, 0, 2])),
        budget_replicas=draw(st.sampled_from([None, None, 0, 5])),
    )


@st.composite
def rules(draw: st.DrawFn) -> ScalingRules:
    limits = st.builds(
        RateLimit,
        type=st.sampled_from(PolicyType),
        value=st.integers(1, 150),
        period_s=st.sampled_from([15.0, 60.0]),
    )
    return ScalingRules(
        tolerance_ratio=draw(st.sampled_from([0.0, 0.1, 0.3])),
        stabilization_window_s=draw(st.sampled_from([0.0, 60.0, 300.0])),
        select_policy=draw(st.sampled_from([SelectPolicy.MAX, SelectPolicy.MIN])),
        rate_limits=tuple(draw(st.lists(limits, max_size=2))),
    )


@st.composite
def policies(draw: st.DrawFn) -> PolicySpec:
    low = draw(st.sampled_from([None, 0, 2]))
    return PolicySpec(
        replicas_min=low,
        replicas_max=draw(st.sampled_from([None, 4, 20])),
        objectives=Objectives(ttft_s=draw(st.sampled_from([None, 2.0]))),
        targets=LensTargets(
            queue_requests=draw(st.sampled_from([None, 2.0])),
            kv_cache_usage_ratio=draw(st.sampled_from([None, 0.8])),
            running_requests=draw(st.sampled_from([None, 16.0])),
            tokens_per_s=draw(st.sampled_from([None, 5000.0])),
        ),
        forecast=ForecastSpec(enabled=draw(st.booleans())),
        scale_up=draw(rules()),
        scale_down=draw(rules()),
        zero=ZeroSpec(enabled=draw(st.booleans()), idle_s=draw(st.sampled_from([0.0, 600.0]))),
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[Observation, PolicySpec, Memory]:
    """What is seen, what is asked for, and a memory as a past of a few decisions leaves it."""
    seen, policy = draw(observations()), draw(policies())
    memory = Memory.start(draw(st.integers(0, 8)), NOW_S - 400)
    for ago_s in draw(st.sampled_from([(), (300,), (300, 200, 20), (20, 10, 4)])):
        level = draw(st.sampled_from([0.0, 0.3, 3.0]))
        past = replace(_scaled(seen, level, ago_s), replicas=draw(st.integers(0, 8)), budget_replicas=None)
        _, memory = decide(past, policy, memory, now_s=NOW_S - ago_s)
    return seen, policy, memory


def _scaled(seen: Observation, level: float, ago_s: float) -> Observation:
    grown = []
    for pod in seen.pods:
        sample = pod.signals
        if sample is not None:
            sample = replace(
                sample,
                observed_at_s=NOW_S - ago_s,
                running_requests=(sample.running_requests or 0.0) * level,
                waiting_requests=(sample.waiting_requests or 0.0) * level,
                kv_cache_usage_ratio=min(1.0, (sample.kv_cache_usage_ratio or 0.0) * level),
            )
        grown.append(replace(pod, signals=sample))
    return replace(seen, pods=tuple(grown))


def with_a_window(policy: PolicySpec) -> PolicySpec:
    return replace(policy, scale_down=replace(policy.scale_down, stabilization_window_s=300.0))


@COMMON
@given(cases())
def test_bounds_and_budget_hold_for_any_input(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, memory = case

    decision, _ = decide(seen, policy, memory, now_s=NOW_S)

    budget = seen.budget_replicas
    if budget is None or budget >= decision.replicas_min:
        assert decision.replicas_min <= decision.replicas <= decision.replicas_max
    assert budget is None or decision.replicas <= budget


@COMMON
@given(cases())
def test_the_steps_end_at_the_number_decided_and_each_has_a_reason(
    case: tuple[Observation, PolicySpec, Memory],
) -> None:
    seen, policy, memory = case

    decision, _ = decide(seen, policy, memory, now_s=NOW_S)

    assert decision.steps[-1].replicas == decision.replicas
    assert decision.reason in {step.reason for step in decision.steps}
    numbers = [step.replicas for step in decision.steps]
    settled = next(step for step in reversed(decision.steps) if step.reason is decision.reason)
    assert settled.replicas == numbers[-1]


@COMMON
@given(cases())
def test_deciding_again_after_applying_changes_nothing(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, memory = case
    first, memory = decide(seen, policy, memory, now_s=NOW_S)

    again, _ = decide(replace(seen, replicas=first.replicas), policy, memory, now_s=NOW_S)

    assert again.replicas == first.replicas


@COMMON
@given(cases())
def test_deciding_again_before_applying_changes_nothing(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, memory = case
    first, memory = decide(seen, policy, memory, now_s=NOW_S)

    again, _ = decide(seen, policy, memory, now_s=NOW_S)

    assert again.replicas == first.replicas


@COMMON
@given(cases(), st.floats(0, 0.999))
def test_until_the_time_to_revisit_the_answer_stays(case: tuple[Observation, PolicySpec, Memory], share: float) -> None:
    seen, policy, memory = case
    first, memory = decide(seen, policy, memory, now_s=NOW_S)
    assert first.revisit_at_s is not None
    assert first.revisit_at_s >= NOW_S
    later_s = NOW_S + share * (first.revisit_at_s - NOW_S)

    later, _ = decide(seen, policy, memory, now_s=later_s)

    assert later.replicas == first.replicas


@COMMON
@given(cases(), st.data())
def test_more_load_never_means_fewer_replicas(
    case: tuple[Observation, PolicySpec, Memory], data: st.DataObject
) -> None:
    seen, policy, memory = case
    fewer, _ = decide(seen, policy, memory, now_s=NOW_S)

    more, _ = decide(_busier(seen, data), policy, memory, now_s=NOW_S)

    assert more.replicas >= fewer.replicas


def _busier(seen: Observation, data: st.DataObject) -> Observation:
    grown = []
    for pod in seen.pods:
        sample = pod.signals
        if sample is not None:
            sample = replace(
                sample,
                running_requests=_more(sample.running_requests, data.draw(counts)),
                waiting_requests=_more(sample.waiting_requests, data.draw(counts)),
                kv_cache_usage_ratio=_more(sample.kv_cache_usage_ratio, data.draw(st.floats(0, 1))),
                prompt_tokens_per_s=_more(sample.prompt_tokens_per_s, data.draw(rates)),
            )
        grown.append(replace(pod, signals=sample))
    return replace(
        seen,
        pods=tuple(grown),
        upstream_waiting_requests=_more(seen.upstream_waiting_requests, data.draw(counts)),
    )


def _more(value: float | None, by: float) -> float | None:
    return None if value is None else value + by


@COMMON
@given(cases())
def test_stale_data_never_shrinks(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, memory = case
    seen = replace(seen, budget_replicas=None)
    stale = tuple(
        replace(pod, signals=pod.signals and replace(pod.signals, observed_at_s=NOW_S - 31.0)) for pod in seen.pods
    )

    decision, _ = decide(replace(seen, pods=stale), policy, memory, now_s=NOW_S)

    if any(pod.phase is PodPhase.READY for pod in seen.pods):
        assert decision.replicas >= min(seen.replicas, decision.replicas_max)


@COMMON
@given(cases())
def test_an_unknown_upstream_never_shrinks(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, memory = case
    seen = replace(seen, budget_replicas=None, upstream_waiting_requests=None, upstream_problem="Prometheus is away")

    decision, _ = decide(seen, policy, memory, now_s=NOW_S)

    assert decision.replicas >= min(seen.replicas, decision.replicas_max)


@COMMON
@given(cases())
def test_a_fresh_memory_never_shrinks_a_fleet_that_has_a_window(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, _ = case
    seen, policy = replace(seen, budget_replicas=None), with_a_window(policy)

    decision, _ = decide(seen, policy, Memory.start(seen.replicas, NOW_S), now_s=NOW_S)

    assert decision.replicas >= min(seen.replicas, decision.replicas_max)


@COMMON
@given(cases(), st.integers(0, 12))
def test_a_saved_memory_never_shrinks_a_fleet_that_has_a_window(
    case: tuple[Observation, PolicySpec, Memory], replicas: int
) -> None:
    seen, policy, memory = case
    seen, policy = replace(seen, budget_replicas=None), with_a_window(policy)
    restored = load(json.loads(json.dumps(dump(memory))), now_s=NOW_S)

    decision, _ = decide(replace(seen, replicas=replicas), policy, restored, now_s=NOW_S + 1)

    assert decision.replicas >= min(replicas, decision.replicas_max)


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
@COMMON
@given(case=cases())
def test_a_clock_that_jumps_never_shrinks(case: tuple[Observation, PolicySpec, Memory], jump_s: float) -> None:
    seen, policy, _ = case
    seen, policy = replace(seen, budget_replicas=None), with_a_window(policy)
    memory = Memory.start(seen.replicas, NOW_S - 20)
    _, memory = decide(seen, policy, memory, now_s=NOW_S - 10)

    decision, _ = decide(seen, policy, memory, now_s=NOW_S + jump_s)

    assert decision.replicas >= min(seen.replicas, decision.replicas_max)


@COMMON
@given(cases(), st.floats(0, 1e6), st.booleans())
def test_a_forecast_only_adds(
    case: tuple[Observation, PolicySpec, Memory], expected: float, is_backfilled: bool
) -> None:
    seen, policy, memory = case
    without = replace(policy, forecast=ForecastSpec(enabled=False))
    withal = replace(policy, forecast=ForecastSpec(enabled=True, horizon_s=360.0))
    forecasting = replace(
        memory,
        forecast=ForecastRecord(
            bin_s=60.0,
            is_backfilled=is_backfilled,
            trend=Score(method=TREND, error=1.0, naive_error=2.0, matured=MATURED_MIN),
            outlook=Outlook(
                method=TREND,
                now_tokens_per_s=1000.0,
                p50_tokens_per_s=expected / 2,
                p90_tokens_per_s=expected,
                skill_ratio=0.5,
            ),
        ),
        open_bin=OpenBin(index=int(NOW_S // 60), fed_at_s=NOW_S, demand_tokens_per_s=1000.0),
    )

    reactive, _ = decide(seen, without, memory, now_s=NOW_S)
    foreseen, _ = decide(seen, withal, forecasting, now_s=NOW_S)

    assert foreseen.replicas >= reactive.replicas


@COMMON
@given(cases())
def test_one_replica_goes_at_a_time_unless_a_hard_bound_says_otherwise(
    case: tuple[Observation, PolicySpec, Memory],
) -> None:
    seen, policy, memory = case

    decision, _ = decide(seen, policy, memory, now_s=NOW_S)

    hard = min(decision.replicas_max, seen.budget_replicas if seen.budget_replicas is not None else 99)
    assert decision.replicas >= min(seen.replicas - 1, hard)


@COMMON
@given(cases())
def test_a_victim_is_named_whenever_a_known_replica_goes(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, memory = case
    kept = frozenset(pod.name for pod in seen.pods[:2])

    decision, _ = decide(replace(seen, last_warm_copies=kept), policy, memory, now_s=NOW_S)

    assert decision.victim not in kept
    if decision.replicas < seen.replicas and len([p for p in seen.pods if p.phase is not PodPhase.TERMINATING]) > 2:
        assert decision.victim is not None or all(p.name in kept for p in seen.pods if p.phase is PodPhase.READY)


@COMMON
@given(cases())
def test_a_pause_holds_whatever_else_is_true(case: tuple[Observation, PolicySpec, Memory]) -> None:
    seen, policy, memory = case

    decision, _ = decide(seen, replace(policy, paused=True), memory, now_s=NOW_S)

    assert (decision.replicas, decision.steps[-1].reason) == (seen.replicas, Reason.PAUSED)
