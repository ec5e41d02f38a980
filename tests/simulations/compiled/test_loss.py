"""A replica that is lost takes its requests with it, and nobody else's."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.compiled.fleet import CompiledFleet, request_records
from simulations.compiled.follows import closed_loop, split_phases
from simulations.compiled.loss import LOST
from simulations.compiled.names import names_of_streams
from simulations.replica import LLAMA_8B_H100, EngineConfig
from simulations.trace import Arrival

CONFIG = EngineConfig(caches_prefixes=False)
CACHING = EngineConfig(num_gpu_blocks=1200, max_model_len_tokens=16_000)


def crowd(requests: int, gap_s: float = 0.01) -> list[Arrival]:
    return [
        Arrival(at_s=number * gap_s, prompt_tokens=200 + 37 * (number % 40), output_tokens=80 + number % 23)
        for number in range(requests)
    ]


def test_a_lost_replica_takes_what_runs_and_what_waits_and_the_others_go_on() -> None:
    config = EngineConfig(caches_prefixes=False, max_num_seqs=16)
    fleet = CompiledFleet(request_records(crowd(400)), config, LLAMA_8B_H100, slots=2)
    for slot in range(2):
        fleet.add(slot, ready_at_s=0.0)
    fleet.advance(2.0)
    had, ended = fleet.outstanding(1), np.isfinite(fleet.requests["finished_at_s"]).sum()
    assert fleet.load(1).waiting_requests > 0
    assert fleet.load(1).running_requests > 0

    lost = fleet.lose(1)
    fleet.advance(math.inf)

    gone = fleet.requests[fleet.requests["replica"] == LOST]
    assert lost == len(gone) == had
    assert np.isnan(gone["finished_at_s"]).all()
    assert np.isnan(gone["first_token_at_s"]).all()
    assert np.isfinite(fleet.requests["finished_at_s"]).sum() == 400 - had > ended


def test_a_slot_whose_replica_was_lost_serves_again() -> None:
    fleet = CompiledFleet(request_records(crowd(400)), CONFIG, LLAMA_8B_H100, slots=1)
    fleet.add(0, ready_at_s=0.0)
    fleet.advance(1.0)

    lost = fleet.lose(0)
    fleet.advance(2.0)
    held = fleet.held_requests
    fleet.add(0, ready_at_s=2.5)
    fleet.advance(math.inf)

    assert held > 90  # a hundred a second, and nobody to take them
    assert np.isfinite(fleet.requests["finished_at_s"]).sum() == 400 - lost


def test_a_replica_that_stopped_still_gets_requests_and_does_nothing_with_them() -> None:
    fleet = CompiledFleet(request_records(crowd(600)), CONFIG, LLAMA_8B_H100, slots=2)
    for slot in range(2):
        fleet.add(slot, ready_at_s=0.0)
    fleet.advance(2.0)
    had, generated = fleet.outstanding(1), fleet.gauges(1).generation_tokens_total

    fleet.stop(1)
    fleet.advance(4.0)

    assert fleet.outstanding(1) > had
    assert fleet.gauges(1).generation_tokens_total <= generated
    assert fleet.lose(1) > had


def test_a_client_whose_request_is_lost_asks_again_after_a_while() -> None:
    requests = request_records(crowd(4, 1.0))
    fleet = CompiledFleet(
        requests, CONFIG, LLAMA_8B_H100, slots=2, follows=closed_loop(np.zeros(4, np.int64), np.full(4, 3.0))
    )
    fleet.add(0, ready_at_s=0.0)
    fleet.advance(0.1)

    assert fleet.lose(0) == 1
    fleet.add(1, ready_at_s=0.0)
    fleet.advance(math.inf)

    assert fleet.requests["arrived_at_s"][1] == pytest.approx(3.1)
    assert np.isfinite(fleet.requests["finished_at_s"]).tolist() == [False, True, True, True]


def test_what_was_to_be_decoded_of_a_lost_prompt_is_lost_too() -> None:
    requests, follows = split_phases(request_records(crowd(3, 1.0)), np.full(3, 0.001))
    fleet = CompiledFleet(requests, CONFIG, LLAMA_8B_H100, slots=2, follows=follows)
    fleet.add(0, ready_at_s=0.0)
    fleet.add(1, ready_at_s=0.0, pool=1)
    fleet.advance(0.0001)

    fleet.lose(0)
    fleet.add(0, ready_at_s=0.5)
    fleet.advance(math.inf)

    assert np.isfinite(fleet.requests["finished_at_s"]).tolist() == [False, True, True] * 2
    assert (fleet.requests["replica"] == LOST).tolist() == [True, False, False] * 2  # its prompt and its answer


@settings(max_examples=40, deadline=None)
@given(
    lost_at_s=st.lists(st.floats(0.05, 8.0), min_size=1, max_size=6),
    stopped_for_s=st.floats(0.0, 1.0),
    slots=st.integers(1, 3),
    is_caching=st.booleans(),
)
def test_every_request_ends_is_lost_or_waits_whatever_is_lost(
    lost_at_s: list[float], stopped_for_s: float, slots: int, is_caching: bool
) -> None:
    requests = request_records(crowd(500))
    names = names_of_streams(np.arange(500) % 7, requests["prompt_tokens"].astype(np.int64) // 16)
    config = CACHING if is_caching else CONFIG
    fleet = CompiledFleet(requests, config, LLAMA_8B_H100, slots=slots, names=names if is_caching else None)
    for slot in range(slots):
        fleet.add(slot, ready_at_s=0.0)
    lost, at_s = 0, 0.0
    for turn, next_s in enumerate(sorted(lost_at_s)):
        at_s = max(at_s, next_s)
        fleet.advance(at_s)
        fleet.stop(turn % slots)
        at_s += stopped_for_s
        fleet.advance(at_s)
        lost += fleet.lose(turn % slots)
        fleet.add(turn % slots, ready_at_s=at_s + 0.3)
    fleet.advance(math.inf)

    ended = np.isfinite(fleet.requests["finished_at_s"])
    gone = fleet.requests["replica"] == LOST
    assert not (ended & gone).any()
    assert ended.sum() + gone.sum() == 500
    assert gone.sum() == lost
    assert {fleet.outstanding(slot) for slot in range(slots)} == {0}
    assert (fleet.requests["generated_tokens"][ended] == fleet.requests["output_tokens"][ended]).all()
