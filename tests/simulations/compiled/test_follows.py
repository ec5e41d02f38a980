"""Requests that come when another one ended: closed loops, and prefill and decoding in pools of their own."""

import numpy as np
import pytest

from simulations.compiled.fleet import CompiledFleet, replay_compiled, requests_of
from simulations.compiled.follows import DECODE_POOL, PREFILL_POOL, closed_loop, split_phases
from simulations.compiled.layout import Records
from simulations.replica import LLAMA_8B_H100, EngineConfig
from simulations.routing import Router

CONFIG = EngineConfig(caches_prefixes=False)
USERS = 7


def traffic(requests: int) -> Records:
    random = np.random.default_rng(5)
    return requests_of(
        np.cumsum(random.exponential(0.05, requests)),
        random.integers(1, 1500, requests).astype(np.int32),
        random.integers(1, 200, requests).astype(np.int32),
    )


def test_a_user_comes_again_after_thinking_about_the_answer() -> None:
    users, think_s = np.arange(200) % USERS, np.linspace(0.0, 3.0, 200)

    served = replay_compiled(traffic(200), 2, CONFIG, LLAMA_8B_H100, follows=closed_loop(users, think_s)).requests

    assert served["arrived_at_s"][:USERS] == pytest.approx(traffic(200)["arrived_at_s"][:USERS])
    expected = served["finished_at_s"][:-USERS] + think_s[:-USERS]
    assert served["arrived_at_s"][USERS:] == pytest.approx(expected, abs=1e-12)


def test_no_more_users_than_there_are_have_a_request_under_way() -> None:
    follows = closed_loop(np.arange(200) % USERS, np.zeros(200))
    fleet = CompiledFleet(traffic(200), CONFIG, LLAMA_8B_H100, slots=1, follows=follows)
    fleet.add(0, ready_at_s=0.0)

    under_way = []
    for tick in range(1, 200):
        fleet.advance(tick * 0.25)
        under_way.append(fleet.outstanding(0) + fleet.held_requests)

    assert max(under_way) == USERS


def test_decoding_begins_where_the_prompts_kv_has_come_to() -> None:
    plain, transfer_s = traffic(100), np.full(100, 0.03)
    requests, follows = split_phases(plain, transfer_s)

    served = replay_compiled(
        requests, 3, CONFIG, LLAMA_8B_H100, follows=follows, pools=(PREFILL_POOL, PREFILL_POOL, DECODE_POOL)
    ).requests
    prefills, decodes = served[:100], served[100:]

    assert set(prefills["replica"].tolist()) == {0, 1}
    assert set(decodes["replica"].tolist()) == {2}
    assert decodes["arrived_at_s"] == pytest.approx(prefills["finished_at_s"] + 0.03, abs=1e-12)
    # No prompt is computed twice: the first token comes with the first step.
    first_steps_s = decodes["first_token_at_s"] - decodes["scheduled_at_s"]
    assert first_steps_s.max() < 2 * LLAMA_8B_H100.duration_s(0, 100, kv_tokens=100 * 1700, attention_pairs=0)


def test_whose_turn_it_is_to_prefill_does_not_hang_on_who_decodes() -> None:
    requests, follows = split_phases(traffic(99), np.full(99, 0.03))
    pools = (PREFILL_POOL, PREFILL_POOL, PREFILL_POOL, DECODE_POOL, DECODE_POOL)

    served = replay_compiled(
        requests, 5, CONFIG, LLAMA_8B_H100, follows=follows, pools=pools, router=Router.ROUND_ROBIN
    ).requests
    prefills, decodes = served[:99], served[99:]

    assert prefills["replica"].tolist() == [0, 1, 2] * 33
    assert decodes["replica"][np.argsort(decodes["arrived_at_s"])].tolist() == ([3, 4] * 50)[:99]


def test_requests_that_follow_each_other_are_known_from_the_start() -> None:
    fleet = CompiledFleet(traffic(5), CONFIG, LLAMA_8B_H100, slots=1, follows=closed_loop(np.arange(5), np.zeros(5)))

    with pytest.raises(ValueError, match="cannot be fed"):
        fleet.feed(traffic(1))
    with pytest.raises(ValueError, match="4 records of what follows 5 requests"):
        CompiledFleet(traffic(5), CONFIG, LLAMA_8B_H100, slots=1, follows=closed_loop(np.arange(4), np.zeros(4)))
