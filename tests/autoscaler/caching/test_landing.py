"""What the next replica's start is expected to find, and how soon that is believed."""

import pytest

from autoscaler.caching.landing import LANDING_SETTLES_S, SettledLanding, landing_of
from autoscaler.policy.types import Landing, Tier

WARM, COLD = Landing(tier=Tier.WARM, node_class="H100"), Landing(tier=Tier.COLD)


@pytest.mark.parametrize(
    ("roomy", "expected"),
    [
        pytest.param({"a": "H100", "b": "H100"}, WARM, id="all that have room hold it"),
        pytest.param({"a": "H100", "c": "H100"}, Landing(tier=Tier.COLD, node_class="H100"), id="one does not"),
        pytest.param({"a": "H100", "b": "A100"}, Landing(tier=Tier.WARM), id="any of two classes"),
        pytest.param({}, COLD, id="nothing is free: a new node comes"),
    ],
)
def test_a_start_is_expected_warm_where_it_is_warm_wherever_it_lands(roomy: dict[str, str], expected: Landing) -> None:
    assert landing_of(roomy, {"a": 0.0, "b": 0.0}) == expected


def test_worse_is_believed_at_once_and_better_after_a_while() -> None:
    landing = SettledLanding()

    told = [landing.settle(seen, at_s) for seen, at_s in [(COLD, 0.0), (WARM, 1.0), (WARM, LANDING_SETTLES_S)]]
    assert told == [COLD, COLD, COLD]
    assert landing.settle(WARM, 1.0 + LANDING_SETTLES_S) == WARM
    assert landing.settle(COLD, 400.0) == COLD
    assert landing.settle(None, 401.0) is None


def test_what_is_seen_first_is_gone_by_at_once() -> None:
    assert SettledLanding().settle(WARM, 0.0) == WARM
