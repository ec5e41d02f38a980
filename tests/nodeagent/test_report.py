"""What the agent says about its node, and when."""

from dataclasses import replace
from typing import Any

import pytest

from cacheops.budget import Room
from cacheops.config import MODELS_MAX
from nodeagent.report import (
    HEARTBEAT_S,
    KSERVE_STATES,
    PROGRESS_S,
    ModelFact,
    NodeFacts,
    Phase,
    is_worth_writing,
    kserve_status,
    node_status,
)
from nodeagent.wishes import LocalModel

NOW_S = 1_763_700_000.0
ROOM = Room(held_bytes=10, high_bytes=80, low_bytes=70)


def facts(*models: ModelFact, **more: Any) -> NodeFacts:
    usual = NodeFacts(models=models, room=ROOM, capacity_bytes=100, free_bytes=90, generation=3, agent="1.0")
    return replace(usual, **more)


def fetching(share: float, *, key: str = "k", **more: Any) -> ModelFact:
    return ModelFact(
        key=key,
        phase=Phase.FETCHING,
        reason="Wanted",
        size_bytes=1000,
        fetched_bytes=int(1000 * share),
        bytes_per_s=50.0,
        **more,
    )


def test_a_fetch_tells_its_speed_and_the_seconds_that_remain() -> None:
    status = node_status(facts(fetching(0.4)), NOW_S)

    [model] = status["models"]
    assert (model["fetchedBytes"], model["bytesPerSecond"], model["remainingSeconds"]) == (400, 50, 12)
    assert (status["summary"], status["reason"]) == ("0/1", "Wanted")
    assert status["disk"] == {"capacityBytes": 100, "freeBytes": 90, "heldBytes": 10, "limitBytes": 80}


def test_the_summary_counts_what_is_wanted_and_the_worst_gives_the_reason() -> None:
    models = (
        ModelFact(key="a", phase=Phase.READY),
        fetching(0.1, key="b"),
        ModelFact(key="c", phase=Phase.FAILED, reason="AccessDenied", retry_at_s=NOW_S + 60),
        ModelFact(key="d", phase=Phase.IDLE),
        ModelFact(key="e", phase=Phase.EVICTING),
    )

    status = node_status(facts(*models), NOW_S)

    assert (status["summary"], status["reason"]) == ("1/3", "AccessDenied")
    assert [model["key"] for model in status["models"]] == ["c", "b", "e", "a", "d"]
    assert status["models"][0]["retryAt"] == "2025-11-21T04:41:00Z"


def test_a_list_that_is_too_long_keeps_what_needs_attention() -> None:
    idle = [ModelFact(key=f"{n:04}", phase=Phase.IDLE) for n in range(MODELS_MAX + 50)]

    status = node_status(facts(*idle, ModelFact(key="z", phase=Phase.FAILED)), NOW_S)

    assert len(status["models"]) == MODELS_MAX
    assert status["models"][0]["key"] == "z"


def test_wishes_that_cannot_be_used_are_the_reason() -> None:
    assert node_status(facts(ModelFact(key="a", phase=Phase.READY), problem="bad"), NOW_S)["reason"] == "InvalidSpec"


def test_long_words_are_cut() -> None:
    status = node_status(facts(ModelFact(key="a", phase=Phase.FAILED, message="x" * 10_000)), NOW_S)

    assert len(status["models"][0]["message"]) == 300


@pytest.mark.parametrize(
    ("before", "after", "since_s", "is_worth"),
    [
        (fetching(0.1), fetching(0.9), PROGRESS_S - 1, False),
        (fetching(0.1), fetching(0.149), PROGRESS_S, False),
        (fetching(0.1), fetching(0.15), PROGRESS_S, True),
        (fetching(0.1), fetching(0.1), HEARTBEAT_S - 1, False),
        (fetching(0.1), fetching(0.1), HEARTBEAT_S, True),
        (fetching(0.1), ModelFact(key="k", phase=Phase.READY), 0.0, True),
        (fetching(0.1), replace(fetching(0.1), reason="Resumes"), 0.0, True),
        (ModelFact(key="k", phase=Phase.READY), ModelFact(key="k", phase=Phase.READY, leases=1), 0.0, True),
        (ModelFact(key="k", phase=Phase.READY, leases=1), ModelFact(key="k", phase=Phase.READY, leases=2), 0.0, False),
    ],
    ids=[
        "progress, too soon",
        "too little progress",
        "progress",
        "nothing new",
        "a sign of life",
        "done",
        "another reason",
        "mounted",
        "mounted twice",
    ],
)
def test_a_status_is_written_for_what_matters_and_in_steps(
    before: ModelFact, after: ModelFact, since_s: float, is_worth: bool
) -> None:
    old, new = node_status(facts(before), NOW_S), node_status(facts(after), NOW_S)

    assert is_worth_writing(new, old, since_s=since_s) is is_worth
    assert is_worth_writing(new, None, since_s=0.0)


def test_kserve_gets_exactly_the_names_of_its_spec() -> None:
    models = (
        LocalModel(name="a", uri="hf://x/a"),
        LocalModel(name="ns/a", uri="hf://x/a"),
        LocalModel(name="b", uri="hf://x/b"),
    )
    known = {models[0].key: ModelFact(key=models[0].key, phase=Phase.READY)}

    status = kserve_status(models, known, {"old": "ModelDownloaded", "a": "ModelDownloading"})

    assert status == {
        "modelStatus": {"old": None, "a": "ModelDownloaded", "ns/a": "ModelDownloaded", "b": "ModelDownloadPending"}
    }


def test_every_phase_has_one_of_kserve_s_words() -> None:
    assert set(KSERVE_STATES) == set(Phase)
    assert set(KSERVE_STATES.values()) == {
        "ModelDownloadPending",
        "ModelDownloading",
        "ModelDownloaded",
        "ModelDownloadError",
    }
