"""The HPA's and KEDA's arithmetic against cases worked out by hand from their documented rules."""

import pytest

from autoscaler.policy.spec import ScalingRules, default_scale_down, default_scale_up
from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.policies.base import Bounds
from simulations.policies.hpa import (
    ExternalMetric,
    Hpa,
    PodsMetric,
    wanted_by_average_value,
    wanted_by_pods,
    wanted_by_value,
)
from simulations.policies.hpa_limits import Behavior, Tolerances, Unruled, ruled
from simulations.policies.keda import external
from simulations.policies.series import running_requests, sum_of, waiting_requests

BOUNDS = Bounds(low=1, high=100)
TOLERANCES = Tolerances()


def waiting_hpa() -> Hpa:
    return Hpa(metrics=(PodsMetric(name="waiting", read=waiting_requests, target=5.0),), limits=ruled(BOUNDS))


def pod(name: str, waiting: float | None, phase: PodPhase = PodPhase.READY, running: float = 0.0) -> PodSeen:
    sample = None
    if waiting is not None:
        sample = PodSignals(observed_at_s=0.0, window_s=30.0, waiting_requests=waiting, running_requests=running)
    return PodSeen(name=name, phase=phase, created_at_s=0.0, signals=sample)


def service(*pods: PodSeen) -> Observation:
    return Observation(service="ns/a", replicas=len(pods), pods=pods)


@pytest.mark.parametrize(
    ("values", "unready", "target", "current", "wanted"),
    [
        ([200.0], 0, 100.0, 1, 2),  # the documentation's own: twice the target doubles
        ([50.0, 50.0], 0, 100.0, 2, 1),  # half the target halves
        ([110.0, 110.0], 0, 100.0, 2, 2),  # ratio 1.1: within tolerance
        ([111.0, 111.0], 0, 100.0, 2, 3),  # just beyond: ceil(1.11 x 2)
        ([90.0, 90.0], 0, 100.0, 2, 2),
        ([0.0, 0.0, 0.0], 0, 5.0, 3, 0),  # bounds come later
        ([200.0, None], 0, 100.0, 2, 2),  # missing counts 0 when growing: (200 + 0) / 2 is the target
        ([300.0, None], 0, 100.0, 2, 3),  # 1.5 x 2
        ([20.0, None], 0, 100.0, 2, 2),  # missing counts the target when shrinking: 0.6 x 2, rounded up
        ([20.0, 20.0, 20.0, None], 0, 100.0, 4, 2),  # (60 + 100) / 4 = 0.4; ceil(1.6)
        ([100.0, None], 0, 100.0, 2, 2),  # at the target, what is missing changes nothing
        ([110.3, 109.9], 0, 100.0, 2, 3),  # 110.1 on average: just beyond
        ([300.0], 2, 100.0, 3, 3),  # unready counts 0 when growing: 1.0 x 3
        ([20.0], 2, 100.0, 3, 1),  # and is left out when shrinking: ceil(0.2 x 1)
        ([120.0, None, None], 0, 100.0, 3, 3),  # would turn growth into shrinking: holds
        ([None, None], 0, 100.0, 2, None),  # no metric at all
    ],
)
def test_a_pods_metric_gives_the_documented_number(
    values: list[float | None], unready: int, target: float, current: int, wanted: int | None
) -> None:
    assert wanted_by_pods(values, TOLERANCES, unready=unready, target=target, current=current) == wanted


@pytest.mark.parametrize(
    ("total", "current", "wanted"),
    [(30.0, 2, 6), (10.5, 2, 2), (11.5, 2, 3), (0.0, 4, 0), (1.0, 1, 1), (26.0, 0, 6), (1e308, 1, 2**31 - 1)],
    ids=["absolute", "within tolerance", "beyond it", "empty", "low", "from zero", "absurd"],
)
def test_an_external_average_value_is_absolute(total: float, current: int, wanted: int) -> None:
    assert wanted_by_average_value(total, TOLERANCES, target=5.0, current=current) == wanted


@pytest.mark.parametrize(
    ("total", "ready", "current", "wanted"),
    [(30.0, 2, 4, 12), (5.4, 2, 4, 4), (30.0, 0, 4, 0), (12.0, 0, 0, 3)],
    ids=["relative to the ready ones", "within tolerance", "none ready", "from zero"],
)
def test_an_external_value_is_relative_and_forgets_what_starts(
    total: float, ready: int, current: int, wanted: int
) -> None:
    assert wanted_by_value(total, TOLERANCES, target=5.0, ready=ready, current=current) == wanted


@pytest.mark.parametrize(
    ("down", "up", "wanted"), [(0.1, 0.1, 10), (0.1, 0.05, 11), (0.0, 0.0, 11)], ids=["default", "up", "none"]
)
def test_tolerance_may_differ_by_direction(down: float, up: float, wanted: int) -> None:
    tolerances = Tolerances(down=down, up=up)

    assert wanted_by_average_value(53.0, tolerances, target=5.0, current=10) == wanted


def test_without_a_behavior_growth_stops_at_twice_the_number_or_four() -> None:
    limits = Unruled(bounds=BOUNDS)

    assert limits.settle(50, 1, 0.0) == 4
    assert limits.settle(50, 4, 15.0) == 8
    assert limits.settle(50, 8, 16.0) == 16  # every sync again: nothing counts per period here


def test_without_a_behavior_the_highest_recommendation_of_five_minutes_holds() -> None:
    limits = Unruled(bounds=Bounds(low=2, high=100))

    assert limits.settle(10, 10, 0.0) == 10
    assert limits.settle(1, 10, 299.0) == 10
    assert limits.settle(1, 10, 301.0) == 2


def test_growth_is_the_larger_of_doubling_and_four_pods_per_15_s() -> None:
    behavior = ruled(BOUNDS)

    assert behavior.settle(50, 2, 0.0) == 6  # +4 beats x2
    assert behavior.settle(50, 6, 5.0) == 6  # within the same 15 s nothing is left: start was 2
    assert behavior.settle(50, 6, 15.0) == 12  # x2 beats +4


def test_shrinking_waits_for_the_highest_recommendation_of_300_s() -> None:
    behavior = ruled(BOUNDS)

    assert behavior.settle(10, 10, 0.0) == 10
    assert behavior.settle(3, 10, 15.0) == 10
    assert behavior.settle(2, 10, 299.0) == 10
    assert behavior.settle(2, 10, 300.0) == 3  # the 10 has left the window, the 3 of 15 s has not
    assert behavior.settle(2, 3, 315.0) == 2


def test_growth_within_an_up_window_takes_the_lowest_recommendation() -> None:
    up = default_scale_up()
    slow = ScalingRules(tolerance_ratio=up.tolerance_ratio, stabilization_window_s=300.0, rate_limits=up.rate_limits)
    behavior = Behavior(bounds=BOUNDS, up=slow, down=default_scale_down())

    assert behavior.settle(1, 1, 0.0) == 1
    assert behavior.settle(8, 1, 15.0) == 1
    assert behavior.settle(6, 1, 299.0) == 1
    assert behavior.settle(8, 1, 316.0) == 5  # lowest in the window is 6, four more per 15 s


def test_the_number_stays_within_bounds() -> None:
    behavior = ruled(Bounds(low=2, high=4))

    assert behavior.settle(50, 3, 0.0) == 4
    assert behavior.settle(0, 4, 1000.0) == 2


def test_an_hpa_counts_a_loading_server_as_a_pod_without_a_metric() -> None:
    hpa = waiting_hpa()

    wish = hpa.wish(service(pod("a", 20.0), pod("b", None, PodPhase.STARTING)), 0.0)

    assert wish is not None
    assert wish.replicas == 4  # (20 + 0) / 2 pods / 5 = 2.0; 2.0 x 2


def test_an_hpa_without_any_metric_holds() -> None:
    hpa = waiting_hpa()

    assert hpa.wish(service(pod("a", None), pod("b", None)), 0.0) is None


def test_a_metric_that_is_gone_forbids_to_shrink_but_not_to_grow() -> None:
    def wish(total: float) -> int | None:
        metrics = (
            ExternalMetric(name="there", total=lambda _seen, _now_s: total, target=5.0),
            ExternalMetric(name="gone", total=lambda _seen, _now_s: None, target=5.0),
        )
        found = Hpa(metrics=metrics, limits=ruled(BOUNDS)).wish(service(pod("a", 0.0), pod("b", 0.0)), 0.0)
        return None if found is None else found.replicas

    assert wish(0.0) is None
    assert wish(15.0) == 3


def test_a_number_outside_the_bounds_is_brought_back_before_any_metric_is_asked() -> None:
    hpa = Hpa(metrics=waiting_hpa().metrics, limits=ruled(Bounds(low=1, high=2)))

    wish = hpa.wish(service(pod("a", 99.0), pod("b", 99.0), pod("c", 99.0)), 0.0)

    assert wish is not None
    assert wish.replicas == 2


def test_keda_takes_the_larger_trigger_and_zero_for_a_lost_series() -> None:
    triggers = (external("queue", sum_of(waiting_requests), 1.0), external("running", sum_of(running_requests), 16.0))
    keda = Hpa(metrics=triggers, limits=ruled(BOUNDS))

    first = keda.wish(service(pod("a", 3.0, running=40.0), pod("b", 0.0, running=40.0)), 0.0)
    lost = keda.wish(service(pod("a", None), pod("b", None)), 1000.0)

    assert first is not None
    assert first.replicas == 5  # max(ceil(3/1), ceil(80/16))
    assert "running asks for 5" in first.reason
    assert lost is not None
    assert lost.replicas == 1  # nobody knows anything, and it shrinks to the minimum
