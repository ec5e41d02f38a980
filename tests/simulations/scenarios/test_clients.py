"""Clients who wait for their answers: how many ask at once, when they come again, and who is never heard of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations.errors import ScenarioError
from simulations.policies.static import Static
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.world import Outcome, Setting, simulate

SCENARIO = """\
traffic: {rates: azure_2023_conversation, endSeconds: 300}
machine: {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 32768}
replicas: {max: 8}
"""
COUNT, THINK_S, TURNS = 40, 5.0, 4
CLOSED = f"clients: {{count: {COUNT}, thinkSeconds: {THINK_S}}}\n"
PARTLY_OPEN = f"clients: {{turns: {TURNS}, thinkSeconds: {THINK_S}}}\n"


def scenario_of(text: str) -> Scenario:
    found = parse_scenario(text, "test", Path())
    assert isinstance(found, Scenario)
    return found


def setting_of(clients: str) -> Setting:
    return scenario_of(SCENARIO + clients).setting(1)[0]


def served_by(replicas: int, setting: Setting) -> Outcome:
    return simulate(replace(setting, replicas_at_start=replicas), Static(replicas))


def under_way(outcome: Outcome) -> int:
    """The most requests that had come and not ended, at any moment."""
    come, gone = outcome.requests["arrived_at_s"], outcome.requests["finished_at_s"]
    moments = np.concatenate([come, gone])
    steps = np.concatenate([np.ones(len(come)), -np.ones(len(gone))])
    return int(np.cumsum(steps[np.lexsort((steps, moments))]).max())


def test_a_closed_loop_has_no_more_requests_under_way_than_clients() -> None:
    setting = setting_of(CLOSED)

    outcome = served_by(1, setting)

    assert 1 < under_way(outcome) <= COUNT
    assert outcome.requests["arrived_at_s"].max() <= setting.span_s
    assert np.isfinite(outcome.requests["finished_at_s"]).all()


def test_who_waits_longer_asks_less_often() -> None:
    setting = setting_of(f"clients: {{count: {20 * COUNT}, thinkSeconds: {THINK_S}}}\n")

    slow, fast = served_by(1, setting), served_by(4, setting)

    assert len(slow.requests) < len(fast.requests) < len(setting.requests)


def test_a_conversation_begins_with_the_traffic_and_goes_on_after_a_thought() -> None:
    setting = setting_of(PARTLY_OPEN)
    traffic = scenario_of(SCENARIO).make(1)

    outcome = served_by(8, setting)

    firsts = traffic["arrived_at_s"][::TURNS]
    assert np.isin(firsts, outcome.requests["arrived_at_s"]).all()
    assert len(firsts) < len(outcome.requests) <= len(traffic)
    answers = outcome.requests["finished_at_s"]
    others = outcome.requests["arrived_at_s"][~np.isin(outcome.requests["arrived_at_s"], firsts)]
    thoughts_s = others[:, None] - answers[None, :]
    # Each came after somebody's answer; an exponential think time is nearly never twelve means long.
    nearest_s = np.where(thoughts_s >= 0, thoughts_s, np.inf).min(axis=1)
    assert nearest_s.max() < 12 * THINK_S


@pytest.mark.parametrize("clients", [CLOSED, PARTLY_OPEN], ids=["closed", "partly open"])
def test_every_policy_meets_the_same_clients(clients: str) -> None:
    setting = setting_of(clients)

    one, again = served_by(2, setting), served_by(2, setting)
    other = served_by(5, setting)

    np.testing.assert_array_equal(one.requests, again.requests)
    # Nobody has had an answer when these come.
    np.testing.assert_array_equal(one.requests["arrived_at_s"][:5], other.requests["arrived_at_s"][:5])


@pytest.mark.parametrize(
    ("clients", "message"),
    [
        ("clients: {thinkSeconds: 3}\n", "clients need a count, or turns, or both"),
        ("clients: {count: 3}\n", "clients.thinkSeconds: Field required"),
        ("clients: {count: 0, thinkSeconds: 3}\n", "clients.count: Input should be greater than or equal to 1"),
    ],
    ids=["nobody", "no thinking", "none"],
)
def test_what_clients_cannot_be_is_said_by_name(clients: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        setting_of(clients)


@pytest.mark.parametrize(
    ("traffic", "clients", "message"),
    [
        ("mooncake_conversation", "{count: 3, thinkSeconds: 3}", "say clients.turns"),
        (None, "{count: 2000000, thinkSeconds: 1}", "clients may ask"),
    ],
    ids=["blocks", "too many"],
)
def test_requests_that_cannot_be_drawn_are_refused(traffic: str | None, clients: str, message: str) -> None:
    text = (
        SCENARIO
        if traffic is None
        else SCENARIO.replace("azure_2023_conversation", f"{traffic}, prefixes: {traffic}_prefixes")
    )

    with pytest.raises(ValueError, match=message):
        scenario_of(f"{text}clients: {clients}\n").setting(1)
