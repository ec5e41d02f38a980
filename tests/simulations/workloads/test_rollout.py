"""Roll-out arithmetic: bounds hold at every step, and every roll-out ends."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.cluster.workloads.rollout import (
    Bounds,
    Generation,
    bounds,
    paused_sizes,
    recreate_sizes,
    rolling_sizes,
    template_hash,
)


def rolling(surge: object, unavailable: object) -> dict[str, object]:
    return {"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}}


@pytest.mark.parametrize(
    ("spec", "desired", "expected"),
    [
        pytest.param({}, 1, Bounds(surge=1, unavailable=0), id="a quarter of one: one more, none fewer"),
        pytest.param({}, 4, Bounds(surge=1, unavailable=1), id="a quarter of four"),
        pytest.param({}, 5, Bounds(surge=2, unavailable=1), id="surge is rounded up, unavailable down"),
        pytest.param({}, 0, Bounds(surge=0, unavailable=0), id="nothing of nothing"),
        pytest.param(rolling(0, 1), 2, Bounds(surge=0, unavailable=1), id="numbers"),
        pytest.param(rolling(0, 0), 2, Bounds(surge=0, unavailable=1), id="both zero would never move"),
        pytest.param(rolling("100%", "50%"), 3, Bounds(surge=3, unavailable=1), id="percentages"),
    ],
)
def test_bounds_are_resolved_as_the_real_controller_does(spec: dict, desired: int, expected: Bounds) -> None:
    assert bounds(spec, desired) == expected


def test_the_hash_depends_on_the_template_and_not_on_the_order_of_its_keys() -> None:
    one = {"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {}}
    other = {"spec": {}, "metadata": {"labels": {"b": "2", "a": "1"}}}

    assert template_hash(one) == template_hash(other)
    assert template_hash(one) != template_hash({**one, "spec": {"x": 1}})
    assert len(template_hash(one)) == 10


@settings(deadline=None)
@given(
    desired=st.integers(0, 12),
    surge=st.integers(0, 5),
    unavailable=st.integers(0, 5),
    old_sizes=st.lists(st.integers(0, 8), max_size=3),
    data=st.data(),
)
def test_a_rollout_stays_within_its_bounds_and_ends(
    desired: int, surge: int, unavailable: int, old_sizes: list[int], data: st.DataObject
) -> None:
    limits = bounds(rolling(surge, unavailable), desired)
    new = Generation(name="new", replicas=0, available=0)
    old = [Generation(name=f"old-{i}", replicas=size, available=size) for i, size in enumerate(old_sizes)]
    most = max(desired + limits.surge, sum(old_sizes))
    least = min(desired - limits.unavailable, sum(old_sizes))

    for step in range(200):
        sizes = rolling_sizes(desired, limits, new, old)
        assert sum(sizes.values()) <= most
        assert sum(min(one.available, sizes[one.name]) for one in (new, *old)) >= least
        old = [Generation(name=one.name, replicas=sizes[one.name], available=sizes[one.name]) for one in old]
        started = data.draw(st.integers(min(new.available, sizes["new"]), sizes["new"])) if step < 20 else sizes["new"]
        new = Generation(name="new", replicas=sizes["new"], available=started)
        if new.available == desired and not any(one.replicas for one in old):
            break

    assert new.replicas == desired
    assert not any(one.replicas for one in old)


def test_pods_that_serve_nobody_go_first() -> None:
    new = Generation(name="new", replicas=1, available=0)
    broken = Generation(name="broken", replicas=3, available=0)
    healthy = Generation(name="healthy", replicas=4, available=4)

    sizes = rolling_sizes(4, Bounds(surge=1, unavailable=0), new, [healthy, broken])

    assert sizes == {"new": 1, "healthy": 4, "broken": 0}


def test_new_pods_that_are_not_available_yet_spare_old_ones() -> None:
    new = Generation(name="new", replicas=1, available=0)
    half = Generation(name="half", replicas=4, available=2)

    assert rolling_sizes(4, Bounds(surge=1, unavailable=1), new, [half]) == {"new": 1, "half": 3}


@pytest.mark.parametrize(
    ("old_pods", "expected"),
    [
        pytest.param(3, {"old": 0, "new": 0}, id="first the old ones go"),
        pytest.param(0, {"old": 0, "new": 3}, id="then the new ones come"),
    ],
)
def test_recreate_never_mixes_generations(old_pods: int, expected: dict[str, int]) -> None:
    old = [Generation(name="old", replicas=3, available=3)]

    assert recreate_sizes(3, Generation(name="new", replicas=0, available=0), old, old_pods=old_pods) == expected


def test_a_paused_rollout_scales_what_is_active() -> None:
    old = [Generation(name="old", replicas=3, available=3)]

    assert paused_sizes(5, None, old) == {"old": 5}
    assert paused_sizes(5, None, []) == {}
    mixed = Generation(name="new", replicas=1, available=1)
    assert paused_sizes(5, mixed, old) == {"old": 3, "new": 1}
