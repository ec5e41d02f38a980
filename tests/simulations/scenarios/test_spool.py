"""A long span's requests are drawn once, kept in a file, and the same for every policy."""

import gc
import os
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations import cli
from simulations.compare import compare
from simulations.compiled.records import requests_of
from simulations.errors import SpoolError, TraceError
from simulations.replica import AdapterLimits
from simulations.scenarios import load_scenario, scenario, spool
from simulations.scenarios.adapters import AdapterUse
from simulations.scenarios.clients import Clients
from simulations.scenarios.draw import Generated, Traffic, Window
from simulations.scenarios.spool import Spool
from simulations.traces import Chunk

ROW_BYTES = 16


@dataclass(slots=True)
class Once:
    """Traffic that can be read one time only, and may fail after some of it."""

    traffic: Traffic
    failing_after: int | None = None
    readings: int = 0

    def chunks(self, seed: int) -> Iterator[Chunk]:
        """As the traffic it stands before."""
        self.readings += 1
        for number, chunk in enumerate(self.traffic.chunks(seed)):
            if number == self.failing_after:
                raise TraceError(Path("trace.csv"), "broken")
            yield chunk


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most of the morning does not fit."""
    monkeypatch.setattr(scenario, "IN_MEMORY_MAX", 10_000)


def morning(failing_after: int | None = None) -> tuple[scenario.Scenario, Once]:
    """The first hours of the shipped day, and their traffic."""
    shipped = load_scenario("chat-day")
    assert isinstance(shipped.traffic, Generated)
    once = Once(replace(shipped.traffic, window=Window(end_s=6 * 3600.0), requests_per_s=2.0), failing_after)
    return replace(shipped, traffic=once), once


def chunk(count: int, begin_s: float = 0.0) -> Chunk:
    """Requests of a second each."""
    tokens = np.arange(1, count + 1, dtype=np.int32)
    return Chunk(at_s=begin_s + np.arange(count) / 3, prompt_tokens=tokens, output_tokens=tokens[::-1])


def open_files() -> int:
    """Of this process, after what nobody refers to is gone."""
    gc.collect()
    return len(os.listdir("/dev/fd"))


@pytest.fixture
def full_after_bytes() -> Iterator[int]:
    """The system refuses to write more than so much into any file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    yield 100_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_policies_have_the_same_outcomes_from_the_file_as_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("warmtide", "keda-epp-queue", "dynamo-throughput")
    before, _ = morning()
    whole, _ = before.setting(1)
    in_memory = list(compare(whole, names, lambda policy, share: None))
    monkeypatch.setattr(scenario, "IN_MEMORY_MAX", 10_000)
    after, once = morning()
    parts, _ = after.setting(1)
    from_file = list(compare(parts, names, lambda policy, share: None))

    assert len(parts.requests) < len(whole.requests) / 2
    assert from_file == in_memory
    assert once.readings == 1


@pytest.mark.usefixtures("little_memory")
def test_the_file_gives_chunk_by_chunk_what_the_traffic_gave() -> None:
    own, once = morning()
    setting, refused = own.setting(1)
    assert setting.more is not None
    parts = [setting.requests, *setting.more()]
    drawn = [scenario.servable(found, own.engine)[0] for found in once.traffic.chunks(1)]
    firsts = len(drawn) - len(parts) + 1

    assert [len(part) for part in parts[1:]] == [len(found) for found in drawn[firsts:]]
    for part, found in zip(parts[1:], drawn[firsts:], strict=True):
        assert part.tobytes() == requests_of(found.at_s, found.prompt_tokens, found.output_tokens).tobytes()
    assert refused == 0


@given(counts=st.lists(st.integers(0, 50), max_size=6))
def test_what_was_added_is_read_as_often_as_one_likes(counts: list[int]) -> None:
    kept = Spool()
    for number, count in enumerate(counts):
        kept.add(chunk(count, 100.0 * number))
    kept.check()
    first, second = kept.parts(), kept.parts()

    for number, count in enumerate(counts):
        if count:
            part, again, expected = next(first), next(second), chunk(count, 100.0 * number)
            assert part.tobytes() == again.tobytes()
            assert (part["arrived_at_s"] == expected.at_s).all()
            assert (part["prompt_tokens"] == expected.prompt_tokens).all()
            assert (part["output_tokens"] == expected.output_tokens).all()
    assert next(first, None) is next(second, None) is None


@pytest.mark.usefixtures("little_memory")
def test_nothing_is_to_be_seen_in_the_folder_and_nothing_stays_open(folder: Path) -> None:
    before = open_files()
    setting, _ = morning()[0].setting(1)
    during = open_files(), list(folder.iterdir())
    del setting

    assert during == (before + 1, [])
    assert open_files() == before


@pytest.mark.usefixtures("little_memory")
def test_nothing_stays_after_a_trace_that_breaks_off(folder: Path) -> None:
    before = open_files()
    with pytest.raises(TraceError, match="broken"):
        morning(failing_after=4)[0].setting(1)

    assert list(folder.iterdir()) == []
    assert open_files() == before


@pytest.mark.usefixtures("little_memory")
def test_a_full_disk_is_named_with_what_is_needed(folder: Path, full_after_bytes: int) -> None:
    own, once = morning()
    with pytest.raises(SpoolError) as refused:
        own.setting(1)
    sizes = [len(found) for found in once.traffic.chunks(1)]
    places = np.cumsum(sizes)
    needed = int(places[-1] - places[np.flatnonzero(places > 10_000)[0]]) * ROW_BYTES

    assert str(refused.value).startswith(f"{folder}: {needed:,} bytes are needed for {needed // ROW_BYTES:,} requests")
    assert f"File too large after {full_after_bytes:,}; name another folder as TMPDIR" in str(refused.value)


@pytest.mark.usefixtures("little_memory", "full_after_bytes")
def test_the_command_says_so_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["compare", "--scenario", "chat-day", "--policies", "warmtide"])

    assert code == 2
    assert capsys.readouterr().err.startswith(f"warmtide sim: {folder}: ")


@pytest.mark.parametrize(("count", "fits"), [(9, True), (10, True), (11, False)], ids=["under", "at", "over"])
def test_the_file_grows_to_its_limit(count: int, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "SPOOL_BYTES_MAX", 10 * ROW_BYTES)
    kept = Spool()
    for number in range(count):
        kept.add(chunk(1, float(number)))

    if fits:
        kept.check()
        assert sum(map(len, kept.parts())) == count
    else:
        with pytest.raises(SpoolError, match=r"176 bytes are needed for 11 requests .* expected at most 160"):
            kept.check()


def test_a_folder_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))

    with pytest.raises(SpoolError, match="absent"):
        Spool()


ALL_AT_ONCE = {
    "clients": Clients(think_s=1.0, turns=2),
    "adapters": AdapterUse(count=2, zipf=0.0, limits=AdapterLimits(max_loras=1, load_s=0.1)),
}


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize("parts", [("clients",), ("adapters",), ("clients", "adapters")], ids=" and ".join)
def test_requests_that_have_to_do_with_each_other_are_limited_with_the_reason_and_ways_out(
    parts: tuple[str, ...],
) -> None:
    own, _ = morning()
    linked = replace(own, **{name: ALL_AT_ONCE[name] for name in parts})  # type: ignore[arg-type]  # fields by name

    with pytest.raises(ValueError, match="must be in memory at once") as caught:
        linked.setting(1)

    assert f"scenario chat-day: more than 10,000 requests: with {' and '.join(parts)} all must" in str(caught.value)
    for way_out in ("endSeconds", "warmtide sim trace convert --end 1d", "traffic.rateRatio"):
        assert way_out in str(caught.value)
