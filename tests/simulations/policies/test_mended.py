"""Known bugs of peers, each behind a flag: what the release does, and what its documentation or its mend says."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from autoscaler.policy.types import Observation, PodPhase
from simulations.commands.setting import policy_names
from simulations.policies import NAMES, Bounds, Policy, Site, build
from simulations.policies.catalog import MENDED

Saw = Callable[..., Observation]


def both(name: str, site: Site) -> tuple[Policy, Policy]:
    as_released, mended = (
        build(each, Bounds(low=1, high=20), ttft_s=2.0, lead_time_s=60.0, site=site)
        for each in (name, f"{name}-mended")
    )
    return as_released, mended


def wished(policy: Policy, seen: Observation, now_s: float) -> int | None:
    wish = policy.wish(seen, now_s)
    return None if wish is None else wish.replicas


@pytest.mark.parametrize(
    ("name", "replicas"), [("keda-prodstack", 1), ("keda-epp-queue", 1), ("keda-epp-token", 3)]
)  # the last one lets one go per 300 s
def test_a_lost_series_is_no_load_to_keda_unless_null_values_are_told_apart(
    name: str, replicas: int, saw: Saw, site: Site
) -> None:
    as_released, mended = both(name, site)
    lost = saw(*[None] * 4)

    # The recommendations of 300 s have passed.
    assert [wished(as_released, lost, at_s) for at_s in (0.0, 400.0)][-1] == replicas
    assert [wished(mended, lost, at_s) for at_s in (0.0, 400.0)] == [None, None]


def test_dynamo_holds_while_a_worker_cannot_start_and_since_its_mend_lets_go_of_it(saw: Saw, site: Site) -> None:
    as_released, mended = both("dynamo-load", site)
    seen = saw({"kv_cache_usage_ratio": 0.0}, {"kv_cache_usage_ratio": 0.0}, starting=1)
    stuck = replace(
        seen,
        pods=tuple(
            replace(pod, phase=PodPhase.UNSCHEDULABLE) if pod.phase is PodPhase.STARTING else pod for pod in seen.pods
        ),
    )
    busy = saw({"kv_cache_usage_ratio": 1.0, "waiting_requests": 400.0}, starting=1)

    assert (wished(as_released, stuck, 0.0), wished(mended, stuck, 0.0)) == (None, 2)
    assert (wished(as_released, busy, 5.0), wished(mended, busy, 5.0)) == (None, None)  # neither asks for more


@pytest.mark.parametrize("name", ["aibrix-apa", "aibrix-kpa"])
def test_aibrix_without_its_bugs_is_built_by_name(name: str, saw: Saw, site: Site) -> None:
    as_released, mended = both(name, site)
    for policy in (as_released, mended):
        wished(policy, saw(*[{"kv_cache_usage_ratio": 0.5}] * 4), 0.0)

    low = saw(*[{"kv_cache_usage_ratio": 0.01}] * 4)

    assert (wished(as_released, low, 10.0), wished(mended, low, 10.0)) in {(3, 4), (2, 4)}


def test_each_is_chosen_by_name_and_none_of_them_by_default() -> None:
    assert policy_names(",".join(MENDED)) == tuple(MENDED)
    assert not set(MENDED) & set(NAMES)
    assert {name.removesuffix("-mended") for name in MENDED} <= set(NAMES)
