"""Ray Serve, SkyServe, the seasonal naive; and what holds for every policy there is."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.policies import NAMES, Bounds, Site, build
from simulations.policies.ray_serve import RayServe, ray_replicas
from simulations.policies.seasonal import seasonal_naive
from simulations.policies.skyserve import SkyServe

Saw = Callable[..., Observation]
BOUNDS = Bounds(low=1, high=20)


@pytest.mark.parametrize(("ongoing", "running", "replicas"), [(10.0, 2, 5), (3.0, 2, 2), (0.0, 3, 0), (4.0, 2, 2)])
def test_ray_wants_one_replica_per_two_ongoing_requests(ongoing: float, running: int, replicas: int) -> None:
    assert ray_replicas(ongoing, running, 2.0) == replicas


def test_ray_grows_after_30_s_and_shrinks_after_600_s(saw: Saw) -> None:
    policy = RayServe(bounds=BOUNDS)
    busy = saw({"running_requests": 6.0, "waiting_requests": 4.0})
    calm = saw(*[{"running_requests": 0.0, "waiting_requests": 0.0}] * 5)

    up = [policy.wish(busy, 10.0 * tick) for tick in range(4)]
    down = [policy.wish(calm, 40.0 + 10.0 * tick) for tick in range(70)]

    assert [wish and wish.replicas for wish in up] == [None, None, None, 5]
    first = next(index for index, wish in enumerate(down) if wish is not None)
    assert 60 <= first <= 63  # 600 s, and what the mean of 30 s still held


def test_skyserve_needs_fifteen_looks_up_and_sixty_down(saw: Saw) -> None:
    policy = SkyServe(bounds=BOUNDS, target_per_s=2.0)

    up = [policy.after(9.0, 1) for _ in range(15)]
    down = [policy.after(1.0, 5) for _ in range(60)]

    assert [wish is None for wish in up] == [True] * 14 + [False]
    assert up[-1] is not None
    assert up[-1].replicas == 5
    assert [wish is None for wish in down] == [True] * 59 + [False]


def test_skyserve_begins_anew_when_the_direction_changes() -> None:
    policy = SkyServe(bounds=BOUNDS, target_per_s=2.0)
    for _ in range(14):
        policy.after(9.0, 1)
    policy.after(2.0, 1)

    assert policy.after(9.0, 1) is None


def test_skyserve_counts_arrivals_as_what_ended_and_what_more_is_outstanding(saw: Saw) -> None:
    policy = SkyServe(bounds=BOUNDS, target_per_s=1.0)
    now = {"finished_requests_per_s": 3.0, "running_requests": 10.0}

    wishes = [policy.wish(saw({**now, "waiting_requests": 2.0 * look}, starting=0), 20.0 * look) for look in range(16)]

    assert wishes[-1] is not None
    assert wishes[-1].reason == "3.10 requests/s"  # six more waiting in the 60 s before


def test_the_seasonal_naive_grows_half_an_hour_before_yesterdays_peak(saw: Saw) -> None:
    policy = seasonal_naive(BOUNDS, target_requests=10.0, season_s=7200.0)
    numbers = {}
    for tick in range(0, 10_000, 15):
        load = 80.0 if 3600 <= tick % 7200 < 4200 else 5.0
        wish = policy.wish(saw({"running_requests": load, "waiting_requests": 0.0}), float(tick))
        assert wish is not None
        numbers[tick] = int(wish.reason.rsplit(" ", 1)[1])

    assert numbers[1800] == 1  # the first day it knows nothing
    assert numbers[9015] == 8  # the second day 1,785 s before the peak of 10,800 s
    assert numbers[8985] == 1


@pytest.mark.parametrize("name", NAMES)
def test_no_policy_leaves_its_bounds_or_shrinks_a_silent_fleet_below_them(name: str, site: Site) -> None:
    @settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4), st.floats(0, 1)), max_size=6))
    def hold(pods: list[tuple[float, float, float]]) -> None:
        policy = build(name, Bounds(low=2, high=5), ttft_s=2.0, lead_time_s=60.0, site=site)
        replicas = 3
        for tick, (running, waiting, kv_ratio) in enumerate(pods):
            signals = {"running_requests": running, "waiting_requests": waiting, "kv_cache_usage_ratio": kv_ratio}
            wish = policy.wish(_service(replicas, signals, 15.0 * tick), 15.0 * tick)
            if wish is not None:
                assert 2 <= wish.replicas <= 5
                replicas = wish.replicas

    hold()


def _service(replicas: int, signals: dict[str, float], now_s: float) -> Observation:
    sample = PodSignals(observed_at_s=now_s, window_s=15.0, finished_requests_per_s=1.0, **signals)
    pods = tuple(
        PodSeen(name=f"pod-{number}", phase=PodPhase.READY, created_at_s=0.0, signals=sample)
        for number in range(replicas)
    )
    return Observation(service="ns/a", replicas=replicas, pods=pods)


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no policy named 'magic'; there are: static, warmtide, hpa-queue"):
        build("magic", BOUNDS, ttft_s=2.0, lead_time_s=60.0)
