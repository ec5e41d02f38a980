"""Requests that are fed as they come and taken when they ended: the same course, in bounded memory."""

import math

import numpy as np
import pytest

from simulations.compiled.fleet import CompiledFleet, replay_compiled, requests_of
from simulations.compiled.layout import Records
from simulations.replica import LLAMA_8B_H100, EngineConfig

CONFIG = EngineConfig(caches_prefixes=False)
COURSE = ("arrived_at_s", "scheduled_at_s", "first_token_at_s", "finished_at_s")


def traffic(requests: int) -> Records:
    random = np.random.default_rng(3)
    return requests_of(
        np.cumsum(random.exponential(0.05, requests)),
        random.integers(1, 1500, requests).astype(np.int32),
        random.integers(1, 200, requests).astype(np.int32),
    )


def test_fed_in_chunks_every_request_has_the_times_it_has_when_all_are_known() -> None:
    whole = replay_compiled(traffic(2000), 2, CONFIG, LLAMA_8B_H100).requests
    fleet = CompiledFleet(traffic(0), CONFIG, LLAMA_8B_H100, slots=2)
    for slot in range(2):
        fleet.add(slot, ready_at_s=-math.inf)

    taken, kept = [], []
    for chunk in np.split(traffic(2000), 20):
        fleet.feed(chunk)
        fleet.advance(float(chunk["arrived_at_s"][-1]))
        taken.append(fleet.take_finished())
        kept.append(len(fleet.requests))
    fleet.advance(math.inf)
    taken.append(fleet.take_finished())

    streamed = np.sort(np.concatenate(taken), order="arrived_at_s")
    for field in COURSE:
        np.testing.assert_array_equal(streamed[field], whole[field])
    assert max(kept) < 200
    assert len(fleet.requests) == 0


def test_a_fed_fleet_holds_what_finds_no_replica() -> None:
    fleet = CompiledFleet(traffic(0), CONFIG, LLAMA_8B_H100, slots=1)
    first, second = np.split(traffic(20), 2)

    fleet.feed(first)
    fleet.advance(float(first["arrived_at_s"][4]))
    held_at_first = fleet.held_requests
    fleet.feed(second)
    fleet.advance(float(second["arrived_at_s"][-1]))

    assert (held_at_first, fleet.held_requests) == (5, 20)
    assert len(fleet.take_finished()) == 0


def test_what_comes_too_late_is_refused() -> None:
    fleet = CompiledFleet(traffic(0), CONFIG, LLAMA_8B_H100, slots=1)
    first, second = np.split(traffic(20), 2)
    fleet.feed(second)

    with pytest.raises(ValueError, match="which is past or known"):
        fleet.feed(first)
