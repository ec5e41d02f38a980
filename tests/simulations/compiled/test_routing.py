"""How a gateway chooses, by hand; and what its choice is worth to prompts that begin alike."""

from pathlib import Path

import numpy as np
import pytest

from simulations.compiled.fleet import forget_course, replay_compiled
from simulations.routing import Candidate, Gateway, PrefixIndex, Router
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario

BLOCK_TOKENS = 16
CONVERSATIONS = """\
traffic: {rates: mooncake_conversation, prefixes: mooncake_conversation_prefixes, endSeconds: 600}
machine: {profile: llama-3.1-8b-h100, maxModelLenTokens: 131072, numGpuBlocks: 28000, maxNumBatchedTokens: 8192}
replicas: {max: 8}
"""


def scenario_of(text: str) -> Scenario:
    found = parse_scenario(text, "test", Path())
    assert isinstance(found, Scenario)
    return found


def gateway(router: Router = Router.PREFIX_AWARE, slots: int = 3, capacity_blocks: int = 100) -> Gateway:
    return Gateway(router, [capacity_blocks] * slots, block_size_tokens=BLOCK_TOKENS)


def candidates(*loads: tuple[int, int, float]) -> list[Candidate]:
    """Of each slot: outstanding, waiting, KV use."""
    return [
        Candidate(slot=slot, outstanding=outstanding, waiting=waiting, kv_usage_ratio=usage)
        for slot, (outstanding, waiting, usage) in enumerate(loads)
    ]


def test_a_prompt_goes_where_its_beginning_was_sent() -> None:
    chooser, idle = gateway(), candidates((0, 0, 0.0), (0, 0, 0.0), (0, 0, 0.0))
    chooser.choose(0, 4 * BLOCK_TOKENS, (1, 2, 3, 4), idle[2:])

    assert chooser.choose(1, 4 * BLOCK_TOKENS, (1, 2, 9, 8), idle) == 2
    assert chooser.choose(2, 4 * BLOCK_TOKENS, (7, 2, 3, 4), idle) == 0


@pytest.mark.parametrize(
    ("loads", "chosen"),
    [
        # A full match is worth 3; a queue of the longest loses 2 of 2; each tenth of KV use loses 0.2.
        (((9, 0, 0.4), (0, 0, 0.0)), 0),
        (((9, 5, 0.0), (0, 0, 0.0)), 0),
        (((9, 5, 0.4), (0, 0, 0.0)), 0),
        (((9, 5, 0.6), (0, 0, 0.0)), 1),
        (((9, 5, 0.6), (9, 5, 0.0)), 0),
    ],
    ids=["KV", "queue", "both, 0.2 short", "both, 0.2 over", "the same queue"],
)
def test_load_outweighs_a_prefix_at_weights_of_three_two_and_two(
    loads: tuple[tuple[int, int, float], ...], chosen: int
) -> None:
    chooser = gateway(slots=2)
    chooser.choose(0, BLOCK_TOKENS, (1,), candidates((0, 0, 0.0)))

    assert chooser.choose(1, BLOCK_TOKENS, (1,), candidates(*loads)) == chosen


def test_of_equals_the_least_busy_is_chosen_and_then_the_first() -> None:
    chooser = gateway()

    assert chooser.choose(0, 1, (), candidates((2, 0, 0.0), (1, 0, 0.0), (1, 0, 0.0))) == 1


def test_an_index_forgets_what_was_sent_first_and_counts_what_nobody_else_has() -> None:
    index = PrefixIndex(4)
    for name in (1, 2, 3):
        index.add(name, 1)

    index.add("own", 2)
    assert index.matched((1,)) == 0
    assert index.matched((2, 3)) == 2
    index.add(2, 1)  # sent again: now 3 is the oldest
    index.add(4, 1)
    assert (index.matched((3,)), index.matched((2, 4))) == (0, 2)


def test_prefix_aware_routing_finds_more_in_the_caches_than_the_others() -> None:
    setting, _ = scenario_of(CONVERSATIONS).setting(1)

    hits, ttft_s = {}, {}
    for router in Router:
        fleet = replay_compiled(
            forget_course(setting.requests), 6, setting.config, setting.times, router=router, names=setting.names
        )
        served = fleet.requests
        hits[router] = fleet.cached_tokens.sum() / served["prompt_tokens"].sum()
        ttft_s[router] = np.mean(served["first_token_at_s"] - served["arrived_at_s"])

    assert hits[Router.PREFIX_AWARE] > 1.5 * max(hits[Router.ROUND_ROBIN], hits[Router.LEAST_OUTSTANDING])
    assert ttft_s[Router.PREFIX_AWARE] < ttft_s[Router.LEAST_OUTSTANDING] < ttft_s[Router.ROUND_ROBIN]
