"""A memory saved and read again; what is malformed is refused by name."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.policy.behavior import Wishes
from autoscaler.policy.errors import BadMemoryError
from autoscaler.policy.examples import Load, Service, latencies, ready
from autoscaler.policy.memory import UNWATCHED_S, Memory, caught_up
from autoscaler.policy.recall import dump, load, load_or_start
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.types import Observation

NOW_S = 1_000_000.0


def lived(*, waiting: list[int], period_s: float = 5.0, ttft_s: float = 0.2) -> Memory:
    """The memory of a service that went through some load."""
    service = Service(policy=PolicySpec(replicas_max=6), replicas=2, startup_s=30.0, period_s=period_s)
    service.sample_changes = {"ttft_s": latencies(requests=100.0, mean_s=ttft_s)}
    for requests in waiting:
        service.load = Load(waiting_requests=requests, kv_cache_usage=0.2 * requests, tokens_per_s=500.0 * requests)
        service.run(60)
    assert service.memory is not None
    return service.memory


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=8), st.floats(-1e6, 1e6))
def test_what_is_saved_comes_back(waiting: list[int], elsewhere_s: float) -> None:
    saved = dump(lived(waiting=waiting))

    again = dump(load(json.loads(json.dumps(saved)), now_s=NOW_S + elsewhere_s))

    assert again.pop("savedAt") in (saved.pop("savedAt"), pytest.approx(NOW_S + elsewhere_s, abs=0.001))
    ages = ("askedAgo", "requestedAgo", "shrunkAgo", "idleAgo", "highs", "lows", "changes", "capacity")
    assert {key: value for key, value in again.items() if key not in ages} == {
        key: value for key, value in saved.items() if key not in ages
    }
    for key in ages:
        assert json.dumps(again[key]) == pytest.approx(json.dumps(saved[key])) or _close(again[key], saved[key])


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_close, one, other))
    return bool(one == pytest.approx(other, abs=0.002))


def test_what_was_learned_is_kept_to_four_digits() -> None:
    memory = lived(waiting=[8, 8, 8, 0, 0], ttft_s=0.6)
    read = load(dump(memory), now_s=NOW_S)

    assert read.starts[0].learned.p50_s == pytest.approx(memory.starts[0].learned.p50_s, rel=1e-3)
    assert read.capacity.learned.tokens_per_s == pytest.approx(memory.capacity.learned.tokens_per_s, rel=1e-3)
    assert read.forecast is not None
    assert memory.forecast is not None
    assert read.forecast.profile.watched_s == pytest.approx(memory.forecast.profile.watched_s, rel=1e-3)


def test_a_saved_memory_is_a_few_kilobytes() -> None:
    memory = lived(waiting=[0, 12, 3, 9, 1, 12, 0, 7] * 3)

    assert len(json.dumps(dump(memory), separators=(",", ":"))) < 6_000


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("version", 2, "memory.version must be 1, got 2"),
        ("replicas", -1, "memory.replicas must be a whole number ≥ 0, got -1"),
        ("replicas", True, "memory.replicas must be a whole number ≥ 0, got True"),
        ("asked", "two", "memory.asked must be a whole number ≥ 0, got 'two'"),
        ("askedAgo", float("nan"), "memory.askedAgo must be a number ≥ 0, got nan"),
        ("savedAt", "noon", "memory.savedAt must be a number ≥ 0, got 'noon'"),
        ("capacity.overAgo", float("inf"), "memory.capacity.overAgo must be a number ≥ 0, got inf"),
        ("askedAgo", -1.0, "memory.askedAgo must be a number ≥ 0, got -1.0"),
        ("shrunkAgo", "long", "memory.shrunkAgo must be a number ≥ 0, got 'long'"),
        ("highs", {}, "memory.highs must be a list of at most 64, got {}"),
        ("highs", [[1.0]], "memory.highs must be a list of [age, replicas], got [[1.0]]"),
        ("lows", [["x", 1]], "memory.lows must be a list of [age, replicas], got [['x', 1]]"),
        ("changes", [[1.0, 1.5]], "memory.changes must be a list of [age, replicas], got [[1.0, 1.5]]"),
        ("changes", [[1.0, 1]] * 65, "memory.changes must be a list of at most 64"),
        ("starting", [3], "memory.starting must be a list of short texts, got [3]"),
        ("starting", None, "memory.starting must be a list of at most 1024, got None"),
        ("starts", ["x"], "memory.starts must be a list of objects, got ['x']"),
        ("capacity", 3, "memory.capacity must be an object, got 3"),
        ("forecast", "sunny", "memory.forecast must be an object, got 'sunny'"),
        ("forecast.bin", 0.1, "memory.forecast.bin must be a number ≥ 1, got 0.1"),
        ("forecast.bin", 61.0, "memory.forecast.bin must be at most 60 s, got 61.0"),
        ("forecast.profile", [1.0], "memory.forecast.profile must be 288 numbers, got [1.0]"),
        ("forecast.trend.residuals", [1.0], "memory.forecast.trend.residuals must be 60 numbers"),
        ("forecast.trend.residuals", [0.0] * 60, "memory.forecast.trend.residuals must be 60 numbers"),
        ("capacity.samples", ["x"], "memory.capacity.samples must be a list of numbers ≥ 0, got ['x']"),
        ("capacity.regime", "x" * 254, "memory.capacity.regime must be a text of at most 253 characters"),
        ("starts.0.tier", "lukewarm", "memory.starts[0].tier must be hot | warm | cold, got 'lukewarm'"),
        ("starts.0.durations", [], "memory.starts[0].durations must be at least one number, got []"),
    ],
)
def test_a_malformed_memory_is_refused_by_field_and_value(field: str, value: object, message: str) -> None:
    data: Any = json.loads(json.dumps(dump(lived(waiting=[8, 0]))))
    place: Any = data
    *path, last = field.split(".")
    for part in path:
        place = place[int(part) if part.isdigit() else part]
    place[last] = value

    with pytest.raises(BadMemoryError) as refused:
        load(data, now_s=NOW_S)

    assert str(refused.value).startswith(message)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_no_saved_text_raises_anything_but_its_own_error(data: st.DataObject) -> None:
    saved: dict[str, object] = dump(Memory.start(3, NOW_S))
    saved[data.draw(st.sampled_from(sorted(saved)))] = data.draw(json_values)

    memory, problem = load_or_start(saved, replicas=3, now_s=NOW_S)

    assert memory.seen_replicas >= 0
    assert problem == "" or problem.startswith("memory.")


def test_without_anything_saved_the_present_number_is_the_memory() -> None:
    memory, problem = load_or_start(None, replicas=4, now_s=NOW_S)

    assert (memory.wishes, problem) == (Wishes(wish=4), "nothing saved yet")


@pytest.mark.parametrize(
    ("elapsed_s", "is_shifted"),
    [
        pytest.param(UNWATCHED_S, False, id="at the limit"),
        pytest.param(UNWATCHED_S + 1, True, id="just over"),
        pytest.param(-1.0, True, id="back in time"),
    ],
)
def test_time_that_nobody_watched_is_taken_out(elapsed_s: float, is_shifted: bool) -> None:
    memory = lived(waiting=[8, 0, 0, 0, 0, 0, 0])
    seen = Observation(service="prod/llama", replicas=memory.seen_replicas)

    later = caught_up(memory, seen, memory.decided_at_s + elapsed_s)

    moved_s = later.wishes.highs[0][0] - memory.wishes.highs[0][0] if memory.wishes.highs else 0.0
    assert (later.decided_at_s - memory.decided_at_s) == (elapsed_s if is_shifted else 0.0)
    assert moved_s == (elapsed_s if is_shifted else 0.0)


def test_a_change_by_someone_else_is_booked_when_it_is_seen() -> None:
    memory = Memory.start(3, NOW_S)
    seen = Observation(service="prod/llama", replicas=5, pods=(ready("a", None),))

    grown = caught_up(memory, seen, NOW_S + 7)

    assert grown.changes == ((NOW_S + 7, 2),)
    assert grown.requested_at_s == NOW_S + 7
