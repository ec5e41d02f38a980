"""A fleet that changes while it serves, what its gauges say, and what it refuses."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from simulations.compiled.fleet import CompiledFleet, Router, replay_compiled, request_records
from simulations.compiled.layout import GAP_BOUNDS_S
from simulations.fleet import Replica
from simulations.replica import LLAMA_8B_H100, EngineConfig, Request, RequestTooLongError
from simulations.trace import Arrival

ROOT = Path(__file__).parents[3]
CONFIG = EngineConfig(caches_prefixes=False)


def crowd(requests: int, gap_s: float = 0.0123, *, output_tokens: int = 80) -> list[Arrival]:
    return [
        Arrival(at_s=number * gap_s, prompt_tokens=200 + 37 * (number % 40), output_tokens=output_tokens + number % 23)
        for number in range(requests)
    ]


def fleet_of(arrivals: list[Arrival], slots: int, router: Router = Router.LEAST_OUTSTANDING) -> CompiledFleet:
    return CompiledFleet(request_records(arrivals), CONFIG, LLAMA_8B_H100, slots=slots, router=router)


def test_requests_wait_in_front_of_the_fleet_until_a_replica_is_ready() -> None:
    fleet = fleet_of(crowd(10, 1.0), 1)
    fleet.add(0, ready_at_s=4.5)

    fleet.advance(4.0)
    assert fleet.held_requests == 5  # those of seconds 0 to 4

    fleet.advance(math.inf)
    assert fleet.held_requests == 0
    assert fleet.requests["scheduled_at_s"][0] == 4.5
    assert (fleet.requests["scheduled_at_s"] >= 4.5).all()


def test_nobody_is_served_by_an_empty_fleet() -> None:
    fleet = fleet_of(crowd(3), 2)

    fleet.advance(math.inf)

    assert np.isnan(fleet.requests["scheduled_at_s"]).all()


def test_a_drained_replica_ends_what_it_has_and_gets_nothing_new() -> None:
    fleet = fleet_of(crowd(400), 2)
    for slot in range(2):
        fleet.add(slot, ready_at_s=0.0)
    fleet.advance(2.0)
    had = fleet.outstanding(1)

    fleet.drain(1)
    fleet.advance(math.inf)

    late = fleet.requests[fleet.requests["arrived_at_s"] > 2.0]
    assert had > 0
    assert set(late["replica"].tolist()) == {0}
    assert fleet.outstanding(1) == 0
    assert 2.0 < fleet.last_finish_at_s(1) < fleet.requests["finished_at_s"].max()
    assert not np.isnan(fleet.requests["finished_at_s"]).any()


def test_a_slot_is_free_for_a_new_replica_once_it_is_empty() -> None:
    fleet = fleet_of(crowd(50), 1)
    fleet.add(0, ready_at_s=0.0)
    fleet.advance(0.3)

    with pytest.raises(ValueError, match="slot 0 has"):
        fleet.add(0, ready_at_s=9.0)

    fleet.drain(0)
    fleet.advance(60.0)
    fleet.add(0, ready_at_s=70.0)
    fleet.advance(math.inf)
    assert fleet.gauges(0).finished_requests_total < 50  # counted from the new start
    assert not np.isnan(fleet.requests["finished_at_s"]).any()


def test_round_robin_gives_everyone_the_same_number() -> None:
    fleet = fleet_of(crowd(90), 3, Router.ROUND_ROBIN)
    for slot in range(3):
        fleet.add(slot, ready_at_s=-math.inf)

    fleet.advance(math.inf)

    assert fleet.requests["replica"].tolist() == [0, 1, 2] * 30


def test_advancing_in_small_steps_changes_nothing() -> None:
    whole = replay_compiled(request_records(crowd(300)), 2, CONFIG, LLAMA_8B_H100)
    pieces = fleet_of(crowd(300), 2)
    for slot in range(2):
        pieces.add(slot, ready_at_s=-math.inf)

    for tick in range(300):
        pieces.advance(tick * 0.037)
        pieces.gauges(0)
    pieces.advance(math.inf)

    for field in ("scheduled_at_s", "first_token_at_s", "finished_at_s"):
        assert (whole.requests[field] == pieces.requests[field]).all()


def test_gauges_are_those_of_the_reference_engine_at_any_moment() -> None:
    config = EngineConfig(caches_prefixes=False, num_gpu_blocks=700, max_num_seqs=40)
    arrivals = crowd(120, 0.0171)
    fleet = CompiledFleet(request_records(arrivals), config, LLAMA_8B_H100, slots=1)
    fleet.add(0, ready_at_s=-math.inf)
    fleet.count_paces()
    reference, pending = Replica(config, LLAMA_8B_H100), list(enumerate(arrivals))

    for tick in range(1, 400):
        now_s = tick * 0.00917
        while pending and pending[0][1].at_s <= now_s:
            number, arrival = pending.pop(0)
            reference.run_until(arrival.at_s)
            reference.engine.submit(
                Request(
                    id=str(number),
                    prompt_tokens=arrival.prompt_tokens,
                    output_tokens=arrival.output_tokens,
                    arrived_at_s=arrival.at_s,
                )
            )
        reference.run_until(now_s)
        fleet.advance(now_s)
        seen, engine = fleet.gauges(0), reference.engine
        assert (seen.running_requests, seen.waiting_requests) == (engine.running_requests, engine.waiting_requests)
        assert seen.kv_cache_usage_ratio == pytest.approx(engine.kv_usage_ratio)
        assert seen.prompt_tokens_total == engine.counters.prompt_tokens
        assert seen.generation_tokens_total == engine.counters.generation_tokens
        assert seen.finished_requests_total == len(reference.finished)
        assert seen.preemptions_total == engine.counters.preemptions
        assert sum(seen.ttft_counts) == len(fleet.requests) - np.isnan(fleet.requests["first_token_at_s"]).sum()
        gaps_s = [gap_s for own in reference.gaps_s.values() for gap_s in own]
        assert (seen.itl_counts, seen.itl_sum_s) == (buckets_of(gaps_s), pytest.approx(sum(gaps_s)))
        paces_s = [
            (one.finished_at_s - one.first_token_at_s) / (one.request.output_tokens - 1) for one in reference.finished
        ]
        assert (seen.tpot_counts, seen.tpot_sum_s) == (buckets_of(paces_s), pytest.approx(sum(paces_s)))


def buckets_of(seconds: list[float]) -> tuple[int, ...]:
    places = np.searchsorted(GAP_BOUNDS_S, seconds)
    return tuple(np.bincount(places, minlength=len(GAP_BOUNDS_S) + 1).tolist())


def test_every_gap_between_two_tokens_is_counted() -> None:
    config = EngineConfig(caches_prefixes=False, num_gpu_blocks=600, max_num_seqs=40)

    fleet = replay_compiled(request_records(crowd(300)), 2, config, LLAMA_8B_H100, keeps_gaps=True)

    assert fleet.requests["preemptions"].sum() > 10
    assert (fleet.gap_counts.sum(axis=1) == fleet.requests["output_tokens"] - 1).all()
    by_replica = [fleet.replica_gap_counts(slot) for slot in range(2)]
    assert np.sum(by_replica, axis=0).tolist() == fleet.gap_counts.sum(axis=0).tolist()


def test_without_numba_the_results_are_the_same_to_the_last_bit() -> None:
    script = (
        "import hashlib, sys\n"
        "from simulations.compiled.fleet import replay_compiled, request_records\n"
        "from simulations.compiled.jit import IS_COMPILED\n"
        "from simulations.replica import LLAMA_8B_H100, EngineConfig\n"
        "from simulations.trace import Arrival\n"
        "config = EngineConfig(caches_prefixes=False, num_gpu_blocks=520, max_num_seqs=40)\n"
        "made = [Arrival(at_s=i * 0.02, prompt_tokens=300 + i % 90, output_tokens=90 + i % 31) for i in range(150)]\n"
        "fleet = replay_compiled(request_records(made), 1, config, LLAMA_8B_H100)\n"
        "course = hashlib.sha256(fleet.requests.tobytes()).hexdigest()\n"
        "print(IS_COMPILED, fleet.requests['preemptions'].sum() > 0, course)\n"
    )
    says = {}
    for disable in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env=os.environ | {"NUMBA_DISABLE_JIT": disable},
            capture_output=True,
            text=True,
            check=True,
        )
        says[disable] = done.stdout.split()

    assert says["0"][:2] == ["True", "True"]
    assert says["1"][:2] == ["False", "True"]
    assert says["0"][2] == says["1"][2]


@pytest.mark.parametrize(
    ("arrivals", "config", "error", "message"),
    [
        ([Arrival(at_s=0, prompt_tokens=9000, output_tokens=1)], CONFIG, RequestTooLongError, "request 0 has 9001 tok"),
        ([Arrival(at_s=0, prompt_tokens=0, output_tokens=1)], CONFIG, ValueError, "at least 1 prompt token"),
        (
            [Arrival(at_s=2, prompt_tokens=1, output_tokens=1), Arrival(at_s=1, prompt_tokens=1, output_tokens=1)],
            CONFIG,
            ValueError,
            "in order of their arrival",
        ),
    ],
    ids=["too long", "no prompt", "out of order"],
)
def test_what_it_cannot_serve_is_refused_by_name(
    arrivals: list[Arrival], config: EngineConfig, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        replay_compiled(request_records(arrivals), 1, config, LLAMA_8B_H100)


def test_a_fleet_needs_a_replica() -> None:
    with pytest.raises(ValueError, match="fleet of 0 replicas"):
        replay_compiled(request_records([]), 0, CONFIG, LLAMA_8B_H100)
