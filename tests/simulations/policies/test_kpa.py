"""Knative's windows, panic and rates against cases worked out by hand."""

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.policies.base import Bounds
from simulations.policies.kpa import Kpa


def service(replicas: int, concurrency: float) -> Observation:
    pods = tuple(
        PodSeen(
            name=f"pod-{number}",
            phase=PodPhase.READY,
            created_at_s=0.0,
            signals=PodSignals(
                observed_at_s=0.0, window_s=6.0, running_requests=concurrency / replicas, waiting_requests=0.0
            ),
        )
        for number in range(replicas)
    )
    return Observation(service="ns/a", replicas=replicas, pods=pods)


def wishes(kpa: Kpa, replicas: int, concurrency: float, ticks: range) -> list[int]:
    found = []
    for tick in ticks:
        wish = kpa.wish(service(replicas, concurrency), 2.0 * tick)
        assert wish is not None
        found.append(wish.replicas)
    return found


def test_steady_concurrency_over_the_target_gives_the_ceiling() -> None:
    kpa = Kpa(bounds=Bounds(high=50), target_requests=10.0)

    assert wishes(kpa, 1, 15.0, range(40))[-1] == 2


def test_a_burst_of_twice_the_capacity_panics_at_once_and_never_goes_down_in_it() -> None:
    kpa = Kpa(bounds=Bounds(high=50), target_requests=10.0)
    wishes(kpa, 1, 5.0, range(30))

    burst = wishes(kpa, 1, 90.0, range(30, 33))  # over three ticks the mean of 6 s is 33.3, 61.7, 90
    after = wishes(kpa, 9, 5.0, range(33, 60))

    assert burst == [4, 7, 9]
    assert set(after) == {9}  # panic lasts 60 s past the last tick over the threshold


def test_after_panic_it_shrinks_by_half_at_most() -> None:
    kpa = Kpa(bounds=Bounds(high=50), target_requests=10.0)
    wishes(kpa, 1, 90.0, range(3))

    later = wishes(kpa, 9, 5.0, range(3, 70))

    assert later[0] == 9
    assert later[-1] == 4  # floor(9 / 2), though 1 would do


def test_a_restart_with_several_replicas_holds_them_for_a_stable_window() -> None:
    kpa = Kpa(bounds=Bounds(high=50), target_requests=10.0)

    held = wishes(kpa, 6, 1.0, range(31))
    later = wishes(kpa, 6, 1.0, range(31, 33))

    assert set(held) == {6}
    assert later[-1] == 3


def test_held_requests_count_as_concurrency() -> None:
    kpa = Kpa(bounds=Bounds(high=50), target_requests=10.0)

    wish = kpa.wish(Observation(service="ns/a", replicas=1, upstream_waiting_requests=35.0), 0.0)

    assert wish is not None
    assert wish.replicas == 4
