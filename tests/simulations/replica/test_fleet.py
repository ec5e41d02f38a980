"""A static fleet: every arrival is served, more replicas never serve worse, one replica is one engine."""

import random
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.fleet import FleetResult, replay_static
from simulations.replica import LLAMA_8B_H100, Engine, EngineConfig, Finished, Request, RequestTooLongError, StepTimes

UNIT = StepTimes(base_s=1.0, prefill_token_s=0.0, decode_sequence_s=0.0, kv_token_s=0.0)
ONE_AT_A_TIME = EngineConfig(max_num_seqs=1)


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    prompt_tokens: int
    output_tokens: int


def poisson(count: int, per_s: float) -> list[Arrival]:
    rng = random.Random(7)
    at_s, arrivals = 0.0, []
    for _ in range(count):
        at_s += rng.expovariate(per_s)
        arrivals.append(Arrival(at_s, rng.randint(1, 2000), rng.randint(1, 200)))
    return arrivals


def test_two_replicas_serve_two_requests_at_once() -> None:
    arrivals = [Arrival(0.0, 1, 5), Arrival(0.0, 1, 5)]

    alone = replay_static(arrivals, 1, ONE_AT_A_TIME, UNIT)
    together = replay_static(arrivals, 2, ONE_AT_A_TIME, UNIT)

    assert [done.ttft_s for done in alone.requests] == [1.0, 6.0]
    assert [done.ttft_s for done in together.requests] == [1.0, 1.0]
    assert (alone.replica_seconds, together.replica_seconds) == (10.0, 10.0)


def test_an_arrival_goes_to_the_replica_with_the_fewest_outstanding_requests() -> None:
    arrivals = [Arrival(0.0, 1, 50), Arrival(0.1, 1, 5), Arrival(10.0, 1, 1)]

    result = replay_static(arrivals, 2, ONE_AT_A_TIME, UNIT)

    assert result.requests[2].ttft_s == 1.0  # the second replica is done with its request, the first is not


def test_one_replica_is_the_engine_itself() -> None:
    arrivals = poisson(60, per_s=20.0)
    engine = Engine(EngineConfig(), LLAMA_8B_H100)
    for number, one in enumerate(arrivals):
        engine.submit(
            Request(
                id=str(number),
                prompt_tokens=one.prompt_tokens,
                output_tokens=one.output_tokens,
                arrived_at_s=one.at_s,
            )
        )
    alone: list[Finished] = []
    now_s = 0.0
    while (ready_at_s := engine.ready_at_s()) is not None:
        engine.start_step(max(now_s, ready_at_s))
        result = engine.finish_step()
        now_s = result.ended_at_s
        alone += result.finished

    fleet = replay_static(arrivals, 1, EngineConfig(), LLAMA_8B_H100)

    assert fleet.requests == tuple(sorted(alone, key=lambda done: int(done.request.id)))


@given(st.integers(1, 6), st.integers(1, 40))
@settings(max_examples=20, deadline=None)
def test_every_arrival_is_served_by_a_fleet_of_any_size(replicas: int, count: int) -> None:
    arrivals = poisson(count, per_s=30.0)

    result = replay_static(arrivals, replicas, EngineConfig(), LLAMA_8B_H100)

    assert [done.request.output_tokens for done in result.requests] == [one.output_tokens for one in arrivals]
    assert result.ended_at_s == max(done.finished_at_s for done in result.requests)


def test_enough_replicas_reach_what_too_few_do_not() -> None:
    arrivals = poisson(400, per_s=60.0)

    attained = [
        replay_static(arrivals, replicas, EngineConfig(max_num_seqs=16), LLAMA_8B_H100).attainment_ratio(ttft_s=0.5)
        for replicas in (1, 4, 12)
    ]

    assert attained[0] < 0.5 < attained[1] < attained[2] == 1.0


def test_quantiles_are_taken_from_what_happened() -> None:
    arrivals = [Arrival(0.0, 1, 1) for _ in range(4)]

    result = replay_static(arrivals, 1, ONE_AT_A_TIME, UNIT)

    assert [result.ttft_quantile_s(quantile) for quantile in (0.25, 0.26, 1.0)] == [1.0, 2.0, 4.0]
    assert result.e2e_quantile_s(0.5) == 2.0
    assert result.attainment_ratio(ttft_s=2.0) == 0.5


def test_a_fleet_without_arrivals_costs_nothing() -> None:
    result = replay_static([], 3, EngineConfig(), LLAMA_8B_H100)

    assert result == FleetResult(replicas=3, requests=(), started_at_s=0.0, ended_at_s=0.0)
    assert (result.attainment_ratio(ttft_s=1.0), result.ttft_quantile_s(0.5)) == (1.0, None)


def test_a_fleet_of_none_and_a_quantile_of_none_are_refused() -> None:
    with pytest.raises(ValueError, match="0 replicas"):
        replay_static([], 0, EngineConfig(), LLAMA_8B_H100)
    with pytest.raises(ValueError, match="quantile 0"):
        replay_static([], 1, EngineConfig(), LLAMA_8B_H100).ttft_quantile_s(0)


def test_an_arrival_that_fits_no_replica_is_refused_by_name() -> None:
    with pytest.raises(RequestTooLongError, match="request 0 has 9000"):
        replay_static([Arrival(0.0, 9000, 1)], 1, EngineConfig(), LLAMA_8B_H100)
