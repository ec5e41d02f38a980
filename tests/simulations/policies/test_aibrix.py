"""AIBrix' rules by hand, and its three bugs beside what its documentation says."""

from collections.abc import Callable

import pytest

from autoscaler.policy.types import Observation
from simulations.policies import Bounds
from simulations.policies.aibrix import Aibrix, Strategy, apa_replicas, kpa_replicas
from simulations.policies.series import kv_cache_usage

Saw = Callable[..., Observation]


def scaler(strategy: Strategy, *, as_released: bool = True) -> Aibrix:
    bounds = Bounds(low=1, high=20)
    return Aibrix(bounds=bounds, strategy=strategy, read=kv_cache_usage, target=0.5, as_released=as_released)


def wished(policy: Aibrix, seen: Observation, now_s: float) -> int:
    wish = policy.wish(seen, now_s)
    assert wish is not None
    return wish.replicas


def using(kv_ratio: float, saw: Saw, pods: int = 4) -> Observation:
    return saw(*[{"kv_cache_usage_ratio": kv_ratio}] * pods)


@pytest.mark.parametrize(
    ("use", "current", "replicas"),
    [(0.54, 4, 4), (0.6, 4, 5), (0.9, 4, 8), (2.0, 4, 8), (0.46, 4, 4), (0.4, 4, 4), (0.3, 4, 3), (0.05, 4, 2)],
    ids=["tolerated", "grows", "just doubles", "at most doubles", "tolerated below", "ceils", "shrinks", "halves"],
)
def test_apa_follows_the_ratio_within_twice_and_half(use: float, current: int, replicas: int) -> None:
    assert apa_replicas(use, 0.5, current) == replicas


@pytest.mark.parametrize(
    ("stable", "panic", "ready", "replicas", "panics"),
    [(10.0, 10.0, 4, 5, False), (10.0, 21.0, 4, 8, True), (10.0, 20.0, 4, 5, False), (0.0, 0.0, 4, 2, True)],
    ids=["steady", "panic", "at the threshold", "nothing seen counts as panic"],
)
def test_kpa_divides_totals_and_panics_beyond_twice(
    stable: float, panic: float, ready: int, replicas: int, panics: bool
) -> None:
    assert kpa_replicas(stable, panic, 2.0, ready) == (replicas, panics)


def test_kpa_as_released_forgets_how_many_pods_there_are(saw: Saw) -> None:
    assert wished(scaler(Strategy.KPA), using(1.0, saw), 0.0) == 2  # one mean of 1.0 over 0.5
    assert wished(scaler(Strategy.KPA, as_released=False), using(1.0, saw), 0.0) == 8


def test_the_cooldown_as_released_lets_one_low_reading_shrink(saw: Saw) -> None:
    released, mended = (scaler(Strategy.APA, as_released=flag) for flag in (True, False))
    for policy in (released, mended):
        assert wished(policy, using(0.5, saw), 0.0) == 4

    # One reading of 0.01 pulls the mean of 180 s to 0.255.
    assert wished(released, using(0.01, saw), 10.0) == 3
    assert wished(mended, using(0.01, saw), 10.0) == 4


def test_panic_as_released_has_no_memory(saw: Saw) -> None:
    released, mended = (scaler(Strategy.KPA, as_released=flag) for flag in (True, False))
    numbers = []
    for policy in (released, mended):
        for tick in range(18):
            policy.wish(using(0.05, saw, pods=2), 10.0 * tick)
        policy.wish(using(1.0, saw, pods=2), 180.0)
        policy.wish(using(1.0, saw, pods=2), 190.0)
        calm = [wished(policy, using(0.05, saw, pods=4), 200.0 + 10 * tick) for tick in range(10)]
        numbers.append(calm[-1])

    assert numbers == [1, 3]  # as released nothing of the panic is left; as documented its highest number holds


def test_without_any_reading_nothing_happens(saw: Saw) -> None:
    assert scaler(Strategy.APA).wish(saw(None, None), 0.0) is None
