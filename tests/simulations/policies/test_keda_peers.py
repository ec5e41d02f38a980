"""llm-d's ScaledObjects against cases from their own guides, worked out by hand."""

from collections.abc import Callable

import pytest

from autoscaler.policy.types import Observation
from metrics.sample import Histogram
from simulations.policies import Bounds, Policy, Site
from simulations.policies.keda import (
    discounted,
    epp_guard,
    epp_tokens,
    epp_windows,
    production_stack,
    slo_aware,
    slo_replicas,
)
from simulations.policies.series import prefill_tokens_per_s

Saw = Callable[..., Observation]
BOUNDS = Bounds(low=1, high=100)


def wished(policy: Policy, seen: Observation, now_s: float = 0.0) -> int:
    wish = policy.wish(seen, now_s)
    assert wish is not None
    return wish.replicas


def test_production_stack_wants_one_replica_per_five_waiting_and_at_most_four_at_first(saw: Saw, site: Site) -> None:
    busy = saw({"waiting_requests": 12.0, "running_requests": 8.0})

    assert wished(production_stack(BOUNDS, site), busy) == 3
    assert wished(production_stack(BOUNDS, site), saw({"waiting_requests": 99.0})) == 4


def test_the_windows_path_takes_the_larger_of_queue_and_running_but_not_before_300_s(saw: Saw, site: Site) -> None:
    policy = epp_windows(BOUNDS, site)
    calm, busy = saw({"running_requests": 10.0}), saw({"running_requests": 40.0, "waiting_requests": 2.0})

    assert wished(policy, calm, 0.0) == 1
    assert wished(policy, busy, 15.0) == 1  # the 1 of the calm sync is in the window
    assert wished(policy, busy, 299.0) == 1
    assert wished(policy, busy, 316.0) == 2  # 3 are wanted, 100 % per 15 s allows 2


@pytest.mark.parametrize(
    ("demand", "pending", "replicas", "wanted"),
    [(3.0, 2, 4, 3.0), (9.0, 0, 4, 9.0), (9.0, 3, 4, 6.0), (6.0, 3, 4, 4.0)],
    ids=["below: as it is", "nothing pending", "pending is taken off", "never below what there is"],
)
def test_the_guard_discounts_what_is_pending(demand: float, pending: int, replicas: int, wanted: float) -> None:
    assert discounted(demand, pending=pending, replicas=replicas) == wanted


def test_the_guard_does_not_order_again_what_is_on_its_way(saw: Saw, site: Site) -> None:
    policy = epp_guard(BOUNDS, site)

    assert wished(policy, saw({"running_requests": 16.0, "waiting_requests": 2.0}), 0.0) == 2
    assert wished(policy, saw({"running_requests": 16.0, "waiting_requests": 3.0}, starting=1), 15.0) == 2


@pytest.mark.parametrize(("backlog_s", "replicas"), [(26.9, 18), (4.5, 3)], ids=["at 2665 tok/s", "at 15928 tok/s"])
def test_the_token_aware_backlog_is_divided_by_a_second_and_a_half(
    saw: Saw, site: Site, backlog_s: float, replicas: int
) -> None:
    # The guide's own example: 26.9 s ask for ceil(26.9 / 1.5) = 18, the same load read as 4.5 s asks for 3.
    waiting = backlog_s * prefill_tokens_per_s(site) / 1000.0
    rates = {"prompt_tokens_per_s": 1000.0, "generation_tokens_per_s": 200.0, "finished_requests_per_s": 1.0}

    wish = epp_tokens(BOUNDS, site).wish(saw({"waiting_requests": waiting, **rates}), 0.0)

    assert wish is not None
    assert wish.reason == f"prefill backlog asks for {replicas}"
    assert wish.replicas == 2  # one pod per 180 s


def test_the_token_aware_kv_sum_counts_replicas_worth_of_cache(saw: Saw, site: Site) -> None:
    wish = epp_tokens(BOUNDS, site).wish(saw(*[{"kv_cache_usage_ratio": 0.9}] * 4), 0.0)

    assert wish is not None
    assert wish.reason == "KV cache asks for 5"  # ceil(3.6 / 0.8)


@pytest.mark.parametrize(
    ("saturation", "provisioned", "ready", "replicas"),
    [
        (0.5, 4, 4, 4),  # within the band
        (1.1, 4, 4, 8),  # 4 + ceil(4 x (1.1 / 0.55 - 1))
        (1.1, 8, 4, 8),  # the same signal while half of them starts: credit 0.5 leaves nothing to ask for
        (0.2, 4, 4, 2),  # 4 - floor(4 x (1 - 0.2 / 0.4))
        (0.3, 4, 2, 3),  # shrinking gives no credit: 4 - floor(4 x 0.25)
        (0.55, 3, 3, 3),  # at the border
        (0.0, 3, 3, 0),
    ],
)
def test_the_slo_law_grows_with_credit_and_shrinks_without(
    saturation: float, provisioned: int, ready: int, replicas: int
) -> None:
    assert slo_replicas(saturation, provisioned=provisioned, ready=ready) == replicas


def test_the_slo_signal_is_cut_at_twice_the_objective_and_averaged_over_45_s(saw: Saw, site: Site) -> None:
    policy = slo_aware(BOUNDS, site, ttft_s=1.0)
    slow = Histogram(bounds=(1.0, 40.0, float("inf")), counts=(0.0, 100.0, 100.0), sum=3000.0)
    ok = saw(*[{"waiting_requests": 0.0}] * 3)

    assert wished(policy, ok, 0.0) == 3  # 0 asks for none; the 3 of the start holds for 180 s
    assert wished(policy, saw(*[{"ttft_s": slow}] * 3), 15.0) == 3  # mean 1.0: 6 wanted, the window of 30 s holds
    wish = policy.wish(saw(*[{"ttft_s": slow}] * 3), 30.0)
    assert wish is not None
    assert wish.reason == "saturation asks for 8"  # mean of 0, 2, 2 is 1.333: 3 + ceil(3 x 1.424)
