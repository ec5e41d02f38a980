"""The same policy told the future: what it is told is true, and it only ever adds."""

from collections.abc import Callable

import numpy as np
import pytest

from autoscaler.policy.forecast import Outlook
from autoscaler.policy.types import Observation, Reason
from simulations.compiled.fleet import requests_of
from simulations.policies import Bounds, Site, build
from simulations.policies.catalog import FORESIGHT, warmtide_spec
from simulations.policies.foresight import Course, Foresight
from simulations.policies.warmtide import Warmtide

Saw = Callable[..., Observation]
BOUNDS = Bounds(low=1, high=10)
# One request of 100 tokens each second; from 80 s on ten of them.
AT_S = np.concatenate([np.arange(80.0), 80.0 + np.arange(1000) / 10.0])
REQUESTS = requests_of(AT_S, np.full(len(AT_S), 60, np.int32), np.full(len(AT_S), 40, np.int32))
BUSY = {
    "running_requests": 20.0, "waiting_requests": 0.0, "kv_cache_usage_ratio": 0.5, "prompt_tokens_per_s": 60.0,
    "generation_tokens_per_s": 40.0, "finished_requests_per_s": 1.0, "stalled_for_s": 0.0,
}  # fmt: skip


def test_the_course_tells_the_tokens_that_arrive() -> None:
    rates = Course(REQUESTS).tokens_per_s(np.array([0.0, 70.0, 75.0, 300.0]), 10.0)

    assert rates == pytest.approx([100.0, 100.0, 550.0, 0.0])


def test_a_rise_within_the_lead_time_is_ordered_before_it_comes(saw: Saw) -> None:
    def policy() -> Warmtide:
        return Warmtide(spec=warmtide_spec(BOUNDS, ttft_s=2.0, lead_time_s=60.0))

    told = Foresight(inner=policy(), course=Course(REQUESTS), lead_time_s=60.0)
    untold = policy()

    early, late, blind = (told.wish(saw(BUSY), 0.0), told.wish(saw(BUSY), 25.0), untold.wish(saw(BUSY), 25.0))

    assert early is not None
    assert early.replicas == 1  # nothing changes within 60 s
    assert late is not None
    assert late.replicas == 2
    assert late.reason == Reason.FORECAST_RAISED
    assert blind is not None
    assert blind.replicas == 1


def test_a_foretold_fall_never_lowers_the_number(saw: Saw) -> None:
    fall = Outlook(
        method="foresight", now_tokens_per_s=100.0, p50_tokens_per_s=0.0, p90_tokens_per_s=0.0, skill_ratio=0.0
    )
    queued = Observation(service="ns/a", replicas=1, pods=saw({**BUSY, "waiting_requests": 30.0}).pods, foretold=fall)

    wish = Warmtide(spec=warmtide_spec(BOUNDS, ttft_s=2.0, lead_time_s=60.0)).wish(queued, 0.0)

    assert wish is not None
    assert wish.replicas > 1


def test_without_the_traffic_there_is_no_foresight(site: Site) -> None:
    with pytest.raises(ValueError, match=r"Site\.requests is None"):
        build(FORESIGHT, BOUNDS, ttft_s=2.0, lead_time_s=60.0, site=site)
