"""The variant autoscaler against the cases of its own analyzers, worked out by hand."""

from collections.abc import Callable

import pytest

from autoscaler.policy.types import Observation
from simulations.policies import Bounds, Site
from simulations.policies.wva import Peak, Saturation, Tokens, by_saturation, by_tokens, derived_tokens

Saw = Callable[..., Observation]


def peaks(*of: tuple[float, float]) -> list[Peak]:
    return [Peak(kv_ratio=kv, queued=queued) for kv, queued in of]


@pytest.mark.parametrize(
    ("of", "change"),
    [
        ([(0.75, 2.0), (0.76, 2.0)], 1),  # spare KV 0.045 < 0.1
        ([(0.50, 3.0), (0.50, 3.0)], 1),  # spare queue 2 < 3
        ([(0.50, 1.0), (0.50, 1.0)], 0),  # healthy, but twice as much on one is not
        ([(0.20, 1.0), (0.30, 1.0), (0.25, 1.0)], -1),  # 0.375 and 1.5 on the others: spare 0.425 and 3.5
        ([(0.70, 2.0), (0.75, 2.0)], 1),  # spare KV 0.075
        ([(0.50, 2.0)], 0),  # one alone never goes
        ([(0.85, 0.0), (0.90, 9.0)], 1),  # all saturated: nothing is spare
        ([(0.20, 0.0), (0.20, 0.0), (0.95, 0.0)], -1),  # the saturated one is left out, and so is its load
    ],
)
def test_saturation_adds_or_takes_one(of: list[tuple[float, float]], change: int) -> None:
    assert Saturation().target(peaks(*of), current=len(of)) == len(of) + change


def test_saturation_is_blocked_while_a_replica_does_not_report() -> None:
    assert Saturation().target(peaks((0.9, 9.0)), current=2) == 2


@pytest.mark.parametrize(
    ("batched", "seqs", "prompt", "output", "tokens"),
    [(4096, 256, 500.0, 100.0, 140_800.0), (8192, 64, 100.0, 200.0, 12_800.0), (8192, 256, 500.0, 0.0, 0.0)],
    ids=["its own first case", "capped by max_num_seqs", "no output"],
)
def test_compute_capacity_is_derived_from_the_servers_arguments(
    batched: int, seqs: int, prompt: float, output: float, tokens: float
) -> None:
    assert derived_tokens(batched, seqs, prompt, output) == pytest.approx(tokens)


def tokens_rule() -> Tokens:
    return Tokens(max_batched_tokens=8192, max_seqs=4096)  # compute never binds: k1 = 0.8 x 16,000 = 12,800


def replica(tokens: float, queued: float = 0.0) -> Peak:
    return Peak(kv_ratio=tokens / 16_000, queued=queued, capacity_tokens=16_000.0)


@pytest.mark.parametrize(
    ("of", "current", "target"),
    [
        ([replica(11_000.0, 3.0)], 1, 2),  # 11,300 / 0.85 = 13,294: short of 494
        ([replica(1000.0), replica(1000.0)], 2, 1),  # 25,600 - 2,000 / 0.7 spares one
        ([replica(10_000.0)], 1, 1),  # 0.78 lies between
        ([replica(11_000.0, 3.0)], 2, 2),  # one is on its way: 25,600 anticipated
        ([], 1, 1),  # nothing known
    ],
    ids=["its scale-up", "its scale-down", "its steady state", "pending counts", "blind"],
)
def test_tokens_compare_demand_with_85_and_70_percent_of_supply(of: list[Peak], current: int, target: int) -> None:
    assert tokens_rule().target(of, (100.0, 50.0), current=current) == target


def test_a_queue_teaches_what_a_replica_can_hold() -> None:
    rule = tokens_rule()

    assert rule.target([replica(4000.0, 6.0)], (100.0, 50.0), current=1) == 2  # 4,600 / 0.85 over 4,000 each
    assert rule.target([replica(3000.0), replica(3000.0)], (100.0, 50.0), current=2) == 2  # still 4,000 each
    assert rule.target([replica(3000.0), replica(3000.0)], (100.0, 600.0), current=2) == 1  # long outputs: not known


def test_both_are_followed_by_the_charts_hpa_with_windows_of_240_s(saw: Saw, site: Site) -> None:
    bounds = Bounds(low=1, high=10)
    busy = saw(*[{"kv_cache_usage_ratio": 0.79, "waiting_requests": 4.0}] * 2)
    for policy in (by_saturation(bounds, site), by_tokens(bounds, site)):
        first = policy.wish(busy, 0.0)
        later = policy.wish(busy, 241.0)

        assert first is not None
        assert first.replicas == 2  # the number of the start is the lowest of the window
        assert later is not None
        assert later.replicas >= 3


def test_a_peak_is_remembered_for_a_minute(saw: Saw, site: Site) -> None:
    policy = by_saturation(Bounds(low=1, high=10), site)
    busy, calm = ({"kv_cache_usage_ratio": kv, "waiting_requests": 0.0} for kv in (0.79, 0.05))
    policy.wish(saw(busy, busy), 0.0)

    soon, later = (policy.wish(saw(calm, calm), at_s) for at_s in (45.0, 61.0))

    assert soon is not None
    assert later is not None
    assert (soon.reason, later.reason) == ("wva_desired_replicas asks for 3", "wva_desired_replicas asks for 1")


def test_its_number_stays_for_a_minute_whatever_becomes_of_the_pods(saw: Saw, site: Site) -> None:
    policy = by_saturation(Bounds(low=1, high=10), site)
    busy = {"kv_cache_usage_ratio": 0.79, "waiting_requests": 0.0}

    asked = [policy.wish(saw(*[busy] * pods), at_s) for at_s, pods in ((0.0, 2), (15.0, 3), (45.0, 3), (60.0, 3))]

    assert [wish.reason.split()[-1] for wish in asked if wish is not None] == ["3", "3", "3", "4"]
