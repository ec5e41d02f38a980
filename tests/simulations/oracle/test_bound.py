"""The oracle's programme against an exhaustive search, and the laws that make it a bound."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.oracle import Demand, Oracle, cheapest
from simulations.oracle.demand import CELLS_MAX, QUANTA_PER_INTERVAL, grid_of, intervals_for
from simulations.oracle.kernel import Costs, Task, best_steps, late_share
from simulations.policies.base import Bounds

INTERVAL_S = 10.0


def demand(work_quanta: list[int], *, begun: int = 1, high: int = 3, allowed: float = 4.0) -> Demand:
    work = np.array(work_quanta, dtype=np.int64)
    return Demand(
        interval_s=INTERVAL_S,
        requests=np.maximum(work, 1),
        work_quanta=work,
        allowed_quanta=allowed,
        replicas_at_start=begun,
        bounds=Bounds(low=1, high=high),
    )


def plans(of: Demand, lead_time_s: float) -> Iterator[tuple[float, float]]:
    """Cost and late requests of every plan there is; work piles up without end."""
    lead = math.ceil(lead_time_s / INTERVAL_S)
    for plan in itertools.product(range(of.bounds.low, of.bounds.high + 1), repeat=len(of.work_quanta)):
        if any(replicas > of.replicas_at_start for replicas in plan[:lead]):
            continue
        cost_s, late, level, before = 0.0, 0.0, 0, of.replicas_at_start
        for replicas, work, requests in zip(plan, of.work_quanta, of.requests, strict=True):
            served = replicas * QUANTA_PER_INTERVAL
            cost_s += replicas * INTERVAL_S + max(0, replicas - before) * lead_time_s
            late += requests * late_share(level, int(work), served, replicas * of.allowed_quanta)
            level, before = max(0, level + int(work) - served), replicas
        yield cost_s, late


def cheapest_plan_s(of: Demand, *, lead_time_s: float, attainment_ratio: float) -> float:
    """Replica-seconds; infinite where no plan keeps the objective. A quantum more may be there, as work is rounded."""
    allowed = (1.0 - attainment_ratio) * float(of.requests.sum())
    rounded = replace(of, allowed_quanta=of.allowed_quanta + 1.0)
    return min((cost_s for cost_s, late in plans(rounded, lead_time_s) if late <= allowed), default=math.inf)


@given(
    work=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    begun=st.integers(1, 3),
    lead_time_s=st.sampled_from([0.0, 10.0, 25.0]),
    price_s=st.sampled_from([0.0, 0.3, 1.0, 5.0]),
)
def test_the_programme_finds_what_an_exhaustive_search_finds(
    work: list[int], begun: int, lead_time_s: float, price_s: float
) -> None:
    of = demand(work, begun=begun)
    lead = math.ceil(lead_time_s / INTERVAL_S)
    most = np.array([begun if interval < lead else 3 for interval in range(len(work))], dtype=np.int64)
    task = Task(
        requests=of.requests,
        work=of.work_quanta,
        fewest=np.ones_like(most),
        most=most,
        begun=begun,
        served=QUANTA_PER_INTERVAL,
        allowed=4.0,
    )
    grid = 5 * 31  # nothing is cut off
    steps = np.zeros((len(work), 4, grid), dtype=np.uint16)

    value = best_steps(task, Costs(INTERVAL_S, lead_time_s, price_s), np.zeros((3, 4, grid)), steps)

    assert value == pytest.approx(min(cost_s + price_s * late for cost_s, late in plans(of, lead_time_s)))


@given(
    work=st.lists(st.integers(0, 16), min_size=2, max_size=6),
    begun=st.integers(1, 3),
    late_requests=st.integers(0, 12),
)
def test_without_a_gap_both_bounds_are_what_the_cheapest_of_all_plans_costs(
    work: list[int], begun: int, late_requests: int
) -> None:
    of = demand(work, begun=begun, allowed=20.0)  # with so much allowed, nothing is cut off
    attainment_ratio = 1.0 - late_requests / (len(work) * 16)
    costs = []
    for lead_s in (0.0, 10.0, 25.0):
        least_s = cheapest_plan_s(of, lead_time_s=lead_s, attainment_ratio=attainment_ratio)
        if least_s == math.inf:
            with pytest.raises(ValueError, match="are late with the most replicas"):
                cheapest(of, lead_time_s=lead_s, attainment_ratio=attainment_ratio)
            continue
        bound = cheapest(of, lead_time_s=lead_s, attainment_ratio=attainment_ratio, gap_ratio=0.0)
        costs.append(bound.lower_hours)

        assert (bound.lower_hours * 3600, bound.feasible_hours * 3600) == pytest.approx((least_s, least_s))

    assert all(shorter <= longer * (1 + 1e-9) for shorter, longer in itertools.pairwise(costs))


@given(
    work=st.lists(st.integers(0, 20), min_size=20, max_size=60),
    attainment_ratio=st.sampled_from([0.5, 0.9, 0.99]),
)
def test_longer_lead_times_cost_more_and_no_bound_is_above_its_plan(work: list[int], attainment_ratio: float) -> None:
    of = demand(work, begun=3)

    oracles = [Oracle(of, lead_s) for lead_s in (0.0, 60.0, 180.0)]

    lower = [oracle.lower_hours(attainment_ratio) for oracle in oracles]
    assert lower[0] <= lower[1] + 1e-9 <= lower[2] + 2e-9
    bounds = [oracle.bound(attainment_ratio, gap_ratio=1.0) for oracle in oracles]
    assert all(least <= bound.lower_hours + 1e-9 for least, bound in zip(lower, bounds, strict=True))
    assert all(bound.lower_hours <= bound.feasible_hours + 1e-9 for bound in bounds)


@given(work=st.lists(st.integers(0, 20), min_size=20, max_size=60))
def test_a_stricter_objective_never_costs_less(work: list[int]) -> None:
    of = demand(work, begun=3)
    oracle = Oracle(of, 60.0)

    lax, strict = (oracle.lower_hours(ratio) for ratio in (0.8, 0.99))

    assert lax <= strict + 1e-9


def test_a_steady_load_of_two_replicas_costs_two_replicas() -> None:
    steady = demand([2 * QUANTA_PER_INTERVAL] * 360, begun=2)

    bound = cheapest(steady, lead_time_s=180.0, attainment_ratio=1.0)

    assert bound.lower_hours == pytest.approx(2.0, rel=0.01)
    assert bound.gap_ratio < 0.02


def test_a_short_dip_is_not_worth_a_start() -> None:
    dip = [16] * 60 + [8] * 6 + [16] * 60  # one minute at half the load

    slow = cheapest(demand(dip, begun=2), lead_time_s=180.0, attainment_ratio=1.0)
    instant = cheapest(demand(dip, begun=2), lead_time_s=0.0, attainment_ratio=1.0)

    assert min(slow.plan[:110]) == 2
    assert min(instant.plan[60:66]) == 1


def test_too_few_replicas_are_said_to_be_too_few() -> None:
    with pytest.raises(ValueError, match=r"the most replicas \(3\), 0 of them by their own prompt; at most 1.00%"):
        cheapest(demand([80] * 60), lead_time_s=60.0, attainment_ratio=0.99)


@pytest.mark.parametrize(
    ("lead_time_s", "attainment_ratio", "message"),
    [
        (-1.0, 0.9, "the lead time must be ≥ 0 s and finite, got -1.0"),
        (math.inf, 0.9, "the lead time must be ≥ 0 s and finite, got inf"),
        (60.0, 0.0, r"attainment must be in \(0, 1\], got 0.0"),
        (60.0, 1.1, r"attainment must be in \(0, 1\], got 1.1"),
    ],
)
def test_nonsense_is_refused(lead_time_s: float, attainment_ratio: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cheapest(demand([1]), lead_time_s=lead_time_s, attainment_ratio=attainment_ratio)


@pytest.mark.parametrize(
    ("before", "work", "served", "allowed", "share"),
    [(0, 8, 8, 4.0, 0.0), (6, 8, 8, 4.0, 1.0), (0, 16, 8, 4.0, 0.5), (8, 0, 8, 4.0, 0.5), (4, 8, 8, 4.0, 0.0)],
    ids=["empty", "full", "rises over it", "falls below it", "just at it"],
)
def test_late_are_those_that_find_more_work_than_is_allowed(
    before: int, work: int, served: int, allowed: float, share: float
) -> None:
    assert late_share(before, work, served, allowed) == pytest.approx(share)


@pytest.mark.parametrize(
    ("span_s", "high", "intervals"),
    [(3600.0, 16, 360), (86_400.0, 12, 8640), (604_800.0, 12, 10_080), (1.0, 1, 1)],
    ids=["an hour", "a day", "a week", "a second"],
)
def test_intervals_are_ten_seconds_and_of_weeks_a_minute(span_s: float, high: int, intervals: int) -> None:
    assert intervals_for(span_s, high, 16.0) == intervals


@given(span_s=st.floats(1.0, 1e7), high=st.integers(1, 2000), allowed_s=st.floats(0.1, 300.0))
def test_tables_fit_into_memory_whatever_is_asked(span_s: float, high: int, allowed_s: float) -> None:
    intervals = intervals_for(span_s, high, allowed_s)

    quanta = allowed_s / (max(span_s, 10.0) / intervals / QUANTA_PER_INTERVAL)
    assert intervals == 1 or intervals * (high + 1) * grid_of(high, quanta + 1.0) <= CELLS_MAX


def test_more_replicas_than_a_byte_counts_are_told_apart() -> None:
    many = demand([300 * QUANTA_PER_INTERVAL] * 6, begun=300, high=310, allowed=0.1)

    assert max(cheapest(many, lead_time_s=0.0, attainment_ratio=1.0).plan) > 255


def test_a_replica_of_several_gpus_costs_as_many_hours() -> None:
    one = demand([3, 9, 20, 4, 0, 8])

    of_two = cheapest(replace(one, gpus_per_replica=2), lead_time_s=10.0, attainment_ratio=0.9)

    alone = cheapest(one, lead_time_s=10.0, attainment_ratio=0.9)
    assert (of_two.lower_hours, of_two.feasible_hours) == (2 * alone.lower_hours, 2 * alone.feasible_hours)
    assert of_two.plan == alone.plan
