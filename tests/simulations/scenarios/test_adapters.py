"""LoRA adapters from a scenario: who has which, and what seats and loading cost."""

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
traffic: {rates: azure_2023_conversation, endSeconds: 300, rateRatio: 2}
machine: {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 32768}
replicas: {max: 8}
"""


def scenario_of(text: str) -> Scenario:
    found = parse_scenario(text, "test", Path())
    assert isinstance(found, Scenario)
    return found


def setting_of(adapters: str, more: str = "") -> Setting:
    return scenario_of(f"{SCENARIO}adapters: {adapters}\n{more}").setting(1)[0]


def served(setting: Setting) -> Outcome:
    return simulate(replace(setting, replicas_at_start=4), Static(4))


def late_s(outcome: Outcome) -> float:
    return float((outcome.requests["first_token_at_s"] - outcome.requests["arrived_at_s"]).mean())


def test_few_adapters_are_asked_for_often_as_in_zipfs_law() -> None:
    follows = setting_of("{count: 20, zipf: 1, loadSeconds: 0.1, maxLoras: 4}").follows

    assert follows is not None
    counts = np.bincount(follows["adapter"], minlength=21)
    assert counts[0] == 0
    assert counts[1] / counts[10] == pytest.approx(10, rel=0.3)


def test_a_client_keeps_to_one_adapter() -> None:
    setting = setting_of("{count: 20, loadSeconds: 0.1}", "clients: {count: 30, thinkSeconds: 5}\n")

    assert setting.follows is not None
    adapters, later = setting.follows["adapter"], setting.follows["next_request"]
    has_next = later >= 0
    np.testing.assert_array_equal(adapters[has_next], adapters[later[has_next]])


def test_seats_and_loading_make_users_wait() -> None:
    none, many, few, slow = (
        served(setting_of(text))
        for text in (
            "{count: 1, loadSeconds: 0}",
            "{count: 16, loadSeconds: 0, maxLoras: 16}",
            "{count: 16, loadSeconds: 0, maxLoras: 2}",
            "{count: 16, loadSeconds: 0.3, maxLoras: 8}",
        )
    )

    assert late_s(none) == pytest.approx(late_s(many), rel=1e-9)
    assert late_s(none) < late_s(slow)
    assert 2 * late_s(none) < late_s(few)
    assert all(np.isfinite(outcome.requests["finished_at_s"]).all() for outcome in (none, many, few, slow))


@pytest.mark.parametrize(
    ("adapters", "message"),
    [
        ("{count: 0, loadSeconds: 1}", "adapters.count: Input should be greater than or equal to 1"),
        ("{count: 3}", "adapters.loadSeconds: Field required"),
        ("{count: 3, loadSeconds: -1}", "adapters.loadSeconds: Input should be greater than or equal to 0"),
    ],
    ids=["none", "no loading", "negative"],
)
def test_what_adapters_cannot_be_is_said_by_name(adapters: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        setting_of(adapters)
