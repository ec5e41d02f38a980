"""What is told beside the table, and only where there is something to tell."""

import json
from dataclasses import replace

import pytest

from autoscaler.policy.types import Tier
from simulations.compare import Row
from simulations.outputs import Page, Shown, render
from simulations.outputs.notes import facts_of, notes_of
from simulations.world import Outcome, Setting
from simulations.world.nodes import NodeUse
from simulations.world.starts.startup import StartFigures, StartsOfTier


@pytest.fixture
def plain(rows: list[Row]) -> Outcome:
    return rows[0].outcome  # the static fleet's: nothing started, nothing is cached, no nodes were given


@pytest.fixture
def eventful(plain: Outcome) -> Outcome:
    tiers = (
        StartsOfTier(tier=Tier.WARM, from_memory=True, count=3, median_s=21.4),
        StartsOfTier(tier=Tier.COLD, from_memory=False, count=2, median_s=118.0),
    )
    spot = NodeUse(group="spot", gpu_class="l40s", gpu_hours=10.0, cost=7.5, reclaims=2, losses=0)
    return replace(
        plain,
        startups=StartFigures(by_tier=tiers, fetched_bytes=32e9, evictions=1),
        prefix_hit_ratio=0.0,
        lost_requests=1234,
        nodes=(spot,),
    )


def test_an_uneventful_run_has_no_notes(plain: Outcome) -> None:
    assert list(notes_of(plain)) == []
    assert facts_of(plain) == {}


def test_each_of_what_happened_has_its_line(eventful: Outcome) -> None:
    assert list(notes_of(eventful)) == [
        "starts: 3 warm from memory, median 21 s; 2 cold, median 118 s; 32 GB came from the origin; "
        "its weights were evicted once",
        "0.0% of the prompt tokens were found in a replica's cache",
        "1,234 requests were lost with their nodes",
        "nodes spot: 10.0 GPU-hours for $7.50, 2 reclaimed",
    ]


def test_programs_read_the_same(eventful: Outcome) -> None:
    facts = json.loads(json.dumps(facts_of(eventful), allow_nan=False))

    assert sorted(facts) == sorted(
        ["starts_by_tier", "fetched_bytes", "evictions", "prefix_hit_ratio", "lost_requests", "nodes"]
    )
    assert facts["starts_by_tier"][0] == {"tier": "warm", "from_memory": True, "count": 3, "median_s": 21.4}
    assert facts["nodes"][0]["reclaims"] == 2


def test_the_page_tells_them_under_the_policy(setting: Setting, eventful: Outcome) -> None:
    shown = Shown(number=1, policy="warmtide", outcome=eventful, cost_ratio=1.0)

    text = render(Page(source="test", profile="llama-3.1-8b-l40s", setting=setting, shown=[shown]))

    assert "<li>1,234 requests were lost with their nodes</li>" in text
