"""The HPA's and KEDA's arithmetic against cases worked out by hand from their documented rules."""

import pytest

from autoscaler.policy.spec import ScalingRules, default_scale_down, default_scale_up
from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.policies.base import Bounds
from simulations.policies.hpa import (
    Behavior,
    Hpa,
    Keda,
    Trigger,
    default_behavior,
    running_requests,
    waiting_requests,
    wanted_by_average_value,
    wanted_by_pods,
)

BOUNDS = Bounds(low=1, high=100)


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
        ([300.0], 2, 100.0, 3, 3),  # unready counts 0 when growing: 1.0 x 3
        ([20.0], 2, 100.0, 3, 1),  # and is left out when shrinking: ceil(0.2 x 1)
        ([120.0, None, None], 0, 100.0, 3, 3),  # would turn growth into shrinking: holds
        ([None, None], 0, 100.0, 2, None),  # no metric at all
    ],
)
def test_a_pods_metric_gives_the_documented_number(
    values: list[float | None], unready: int, target: float, current: int, wanted: int | None
) -> None:
    assert wanted_by_pods(values, unready=unready, target=target, current=current) == wanted


@pytest.mark.parametrize(
    ("total", "current", "wanted"),
    [(30.0, 2, 6), (10.5, 2, 2), (11.5, 2, 3), (0.0, 4, 0), (1.0, 1, 1), (26.0, 0, 6)],
    ids=["absolute", "within tolerance", "beyond it", "empty", "low", "from zero"],
)
def test_an_external_average_value_is_absolute(total: float, current: int, wanted: int) -> None:
    assert wanted_by_average_value(total, target=5.0, current=current) == wanted


def test_growth_is_the_larger_of_doubling_and_four_pods_per_15_s() -> None:
    behavior = default_behavior(BOUNDS)

    assert behavior.settle(50, 2, 0.0) == 6  # +4 beats x2
    assert behavior.settle(50, 6, 5.0) == 6  # within the same 15 s nothing is left: start was 2
    assert behavior.settle(50, 6, 15.0) == 12  # x2 beats +4


def test_shrinking_waits_for_the_highest_recommendation_of_300_s() -> None:
    behavior = default_behavior(BOUNDS)

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
    behavior = default_behavior(Bounds(low=2, high=4))

    assert behavior.settle(50, 3, 0.0) == 4
    assert behavior.settle(0, 4, 1000.0) == 2


def test_an_hpa_counts_a_loading_server_as_a_pod_without_a_metric() -> None:
    hpa = Hpa(read=waiting_requests, target=5.0, behavior=default_behavior(BOUNDS))

    wish = hpa.wish(service(pod("a", 20.0), pod("b", None, PodPhase.STARTING)), 0.0)

    assert wish is not None
    assert wish.replicas == 4  # (20 + 0) / 2 pods / 5 = 2.0; 2.0 x 2


def test_an_hpa_without_any_metric_holds() -> None:
    hpa = Hpa(read=waiting_requests, target=5.0, behavior=default_behavior(BOUNDS))

    assert hpa.wish(service(pod("a", None), pod("b", None)), 0.0) is None


def test_keda_takes_the_larger_trigger_and_zero_for_a_lost_series() -> None:
    triggers = (Trigger(read=waiting_requests, target=1.0), Trigger(read=running_requests, target=16.0))
    keda = Keda(triggers=triggers, behavior=default_behavior(BOUNDS))

    first = keda.wish(service(pod("a", 3.0, running=40.0), pod("b", 0.0, running=40.0)), 0.0)
    lost = keda.wish(service(pod("a", None), pod("b", None)), 1000.0)

    assert first is not None
    assert first.replicas == 5  # max(ceil(3/1), ceil(80/16))
    assert lost is not None
    assert lost.replicas == 1  # nobody knows anything, and it shrinks to the minimum
