"""A capacity that was learned too low mends itself; trust leaves off before anything is lost, and ends with a fact."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest

from autoscaler.policy.capacity import CapacityRecord, estimate, learn_capacity
from autoscaler.policy.evidence import LEAP_RATIO, gather
from autoscaler.policy.examples import Load, Service, fleet, latencies, numbers, signals, starting
from autoscaler.policy.memory import Memory
from autoscaler.policy.recall import dump, load
from autoscaler.policy.spec import ForecastSpec, LensTargets, PolicySpec
from autoscaler.policy.supply import take_stock
from autoscaler.policy.trust import LOOK_EVERY_S, LOWER_RATIO, PATIENCE_S, RAISE_RATIO, watch_calm
from autoscaler.policy.types import Observation, PodPhase, Reason

POLICY = PolicySpec(replicas_max=20, forecast=ForecastSpec(enabled=False))
NOW_S = 1_000_000.0
# One percent a minute makes 2640 tokens/s 6700 in 94 minutes, and each of eight replicas stays five minutes more.
MENDED_WITHIN_S = 2.5 * 3600.0


def knowing(tokens_per_s: float, **more: float) -> CapacityRecord:
    """A capacity learned from three windows."""
    samples = (tokens_per_s,) * 3
    learned = replace(estimate(samples, 3, "batch", None), **more)  # type: ignore[arg-type]  # real fields
    return CapacityRecord(samples_tokens_per_s=samples, windows=3, learned=learned, learned_before=learned)


@dataclass(slots=True)
class World:
    """30 requests and 30,000 tokens/s for replicas that serve 9,000 each; latency tells of their use."""

    service: Service
    worst_use_ratio: float = 0.0

    def run(self, duration_s: float) -> None:
        service = self.service
        for _ in range(math.ceil(duration_s / service.period_s)):
            ready = sum(pod.phase is PodPhase.READY for pod in service.observe().pods)
            use_ratio = 30_000.0 / (9_000.0 * ready)
            self.worst_use_ratio = max(self.worst_use_ratio, use_ratio)
            mean_s = 0.1 / max(0.02, 1.0 - use_ratio)
            service.sample_changes = {"ttft_s": latencies(requests=30.0 * 30.0 / ready, mean_s=mean_s)}
            service.run(service.period_s)


def world(learned_tokens_per_s: float, *, replicas: int) -> World:
    busy = Load(tokens_per_s=30_000.0, running_requests=100.0, kv_cache_usage=1.0)
    service = Service(policy=POLICY, replicas=replicas, period_s=20.0, load=busy)
    service.memory = replace(Memory.start(replicas, service.now_s), capacity=knowing(learned_tokens_per_s))
    return World(service)


def test_a_capacity_learned_too_low_comes_to_the_fleet_of_the_true_one_and_loses_nothing() -> None:
    latched, true = world(3_300.0, replicas=13), world(9_000.0, replicas=13)

    latched.run(MENDED_WITHIN_S)
    true.run(MENDED_WITHIN_S)

    course = numbers(latched.service.decisions)
    assert (course[0], course[-1]) == (13, true.service.replicas)
    assert course == sorted(course, reverse=True)
    assert latched.worst_use_ratio < 1.0
    assert Reason.FOLLOWING_TTFT not in latched.service.reasons


def test_a_trial_that_went_too_far_is_undone_by_one_replica_and_not_repeated_at_once() -> None:
    true = world(9_000.0, replicas=5)

    true.run(2 * PATIENCE_S)

    assert numbers(true.service.decisions) == [5, 4, 5, 4, 5]
    assert true.worst_use_ratio < 0.85


def test_a_decision_that_rests_on_trust_says_so() -> None:
    latched = world(3_300.0, replicas=13)

    latched.run(MENDED_WITHIN_S)

    shrunk = next(d for d in latched.service.decisions if d.replicas < d.current_replicas)
    assert shrunk.steps[0].reason is Reason.FOLLOWING_TOKENS
    assert "as calm lets us trust replicas that seemed full at 3300" in shrunk.steps[0].detail


def looked(record: CapacityRecord, policy: PolicySpec = POLICY, seen: Observation | None = None, **work: Any) -> float:
    """What replicas are trusted with after one look at four that serve 2,000 tokens/s each; 0: nothing beyond."""
    sample = signals(
        NOW_S, **{"prompt_tokens_per_s": 1_500.0, "generation_tokens_per_s": 500.0, "kv_cache_usage_ratio": 0.1, **work}
    )
    seen = seen or fleet([sample] * 4)
    memory = replace(Memory.start(4, NOW_S - 15), capacity=record)
    stock = take_stock(seen, policy, (), NOW_S, now_s=NOW_S)
    evidence = gather(seen, policy, stock, memory, now_s=NOW_S)
    return watch_calm(record, stock, evidence, policy).learned.trusted_tokens_per_s or 0.0


TTFT_AT_HALF = latencies(requests=100.0, mean_s=1.0 / math.log(20.0))  # P95 at 1 s of 2 s


@pytest.mark.parametrize(
    ("work", "trusted"),
    [
        ({}, 2_000.0 * RAISE_RATIO),
        ({"ttft_s": TTFT_AT_HALF}, 0.0),
        ({"ttft_s": None}, 0.0),
        ({"kv_cache_usage_ratio": 0.53}, 2_000.0 * RAISE_RATIO),
        ({"kv_cache_usage_ratio": 0.55}, 0.0),
        ({"kv_cache_usage_ratio": None}, 0.0),
        ({"waiting_requests": 0.9}, 2_000.0 * RAISE_RATIO),
        ({"waiting_requests": 1.0}, 0.0),
        ({"prompt_tokens_per_s": 800.0}, 0.0),
    ],
    ids=[
        "calm",
        "latencies at half of the objective",
        "latencies cannot be read",
        "the caches would let one go",
        "the caches need all",
        "the caches cannot be read",
        "few wait",
        "half of what may wait does",
        "too little work to tell",
    ],
)
def test_calm_alone_lets_replicas_be_trusted_with_more(work: dict[str, Any], trusted: float) -> None:
    assert looked(knowing(2_500.0), **work) == pytest.approx(trusted)


@pytest.mark.parametrize("target", [2_000.0, None], ids=["a number of the user's", "nothing is to be learned"])
def test_what_is_not_ours_to_learn_is_left_alone(target: float | None) -> None:
    targets = LensTargets(tokens_per_s=target, use_learned_capacity=target is not None)

    assert looked(knowing(2_500.0), replace(POLICY, targets=targets)) == 0.0


LATE = latencies(requests=100.0, mean_s=1.0)


@pytest.mark.parametrize(
    ("over_s", "trusted"),
    [(LOOK_EVERY_S, 2_400.0 / LOWER_RATIO), (LOOK_EVERY_S - 1, 2_400.0)],
    ids=["a minute later", "within the minute"],
)
def test_a_minute_over_a_target_takes_back_four(over_s: float, trusted: float) -> None:
    record = replace(knowing(2_500.0, trusted_tokens_per_s=2_400.0), over_at_s=NOW_S - over_s)

    assert looked(record, ttft_s=LATE) == pytest.approx(trusted)


@pytest.mark.parametrize(("over_s", "is_more"), [(PATIENCE_S - 1, False), (PATIENCE_S, True)], ids=["within", "after"])
def test_whoever_had_to_be_relieved_is_trusted_with_no_more_for_an_hour(over_s: float, is_more: bool) -> None:
    record = replace(knowing(2_500.0), over_at_s=NOW_S - over_s)

    assert (looked(record) > 0.0) is is_more


def test_nothing_is_learned_from_calm_before_a_new_replica_has_its_share() -> None:
    pods = (*fleet([signals(NOW_S)] * 4).pods, starting("new", created_at_s=NOW_S - 10))

    assert looked(knowing(2_500.0), seen=Observation(service="prod/llama", replicas=5, pods=pods)) == 0.0


def test_calm_is_looked_at_once_a_minute() -> None:
    just, due = NOW_S - LOOK_EVERY_S + 1, NOW_S - LOOK_EVERY_S

    assert looked(replace(knowing(2_500.0), looked_at_s=just)) == 0.0
    assert looked(replace(knowing(2_500.0), looked_at_s=due)) > 0.0


def test_where_nothing_was_seen_to_saturate_trust_makes_no_leap() -> None:
    shown = CapacityRecord(learned=replace(estimate((), 0, "unknown", 2_000.0), trusted_tokens_per_s=2_490.0))

    assert looked(shown, prompt_tokens_per_s=2_000.0, generation_tokens_per_s=500.0) == LEAP_RATIO * 2_000.0


@pytest.mark.parametrize(
    ("measured", "samples"),
    [(6_000.0, (5_000.0,) * 3), (4_000.0, (4_000.0,) * 3), (2_000.0, (3_300.0,) * 3)],
    ids=["more than trusted", "less than trusted", "less than ever"],
)
def test_saturation_ends_trust_and_what_it_disproved_is_raised(measured: float, samples: tuple[float, ...]) -> None:
    record = knowing(3_300.0, trusted_tokens_per_s=5_000.0)
    work = {"waiting_requests": 5.0, "prompt_tokens_per_s": measured, "generation_tokens_per_s": 0.0}
    for at_s in (NOW_S, NOW_S + 30.0):
        seen = fleet([signals(at_s, ttft_s=latencies(requests=100.0, mean_s=0.6), **work)])
        record = learn_capacity(record, take_stock(seen, POLICY, (), at_s, now_s=at_s), POLICY)

    assert record.samples_tokens_per_s == (*samples, measured)
    assert record.learned.trusted_tokens_per_s is None


def test_trust_survives_a_restart() -> None:
    memory = replace(Memory.start(4, NOW_S), capacity=knowing(3_300.0, trusted_tokens_per_s=5_000.0))

    assert load(dump(memory), now_s=NOW_S + 60).capacity.learned.trusted_tokens_per_s == 5_000.0
