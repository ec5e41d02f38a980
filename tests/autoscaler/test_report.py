"""What a pass found out becomes status: complete, bounded, and written only when it matters."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.conditions import Problem
from autoscaler.crds import scaled_service
from autoscaler.examples import NOW_S, decision, report
from autoscaler.learned import unpack
from autoscaler.policy.spec import Mode
from autoscaler.policy.types import (
    Capacity,
    ForecastReading,
    LeadTime,
    LensReading,
    Reason,
    Step,
    Supply,
    Tier,
)
from autoscaler.report import CHANGES_MAX, STATUS_MAX_CHARS, Freshness, ServiceReport, render
from autoscaler.sentences import SENTENCES, sentence
from autoscaler.status_changes import REASON_SPACING_S, REFRESH_S, needs_write, status_patch

STATUS_SCHEMA = scaled_service()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The same schema, refusing fields that an API server would silently drop."""
    node = dict(schema)
    if "properties" in node:
        node["properties"] = {name: closed(part) for name, part in node["properties"].items()}
        node["additionalProperties"] = False
    if "items" in node:
        node["items"] = closed(node["items"])
    return node


HUGE = "x" * 5_000
FULL = decision(
    5,
    reason=Reason.RATE_UP,
    steps=tuple(Step(replicas=i, reason=Reason.FOLLOWING_QUEUE, detail=HUGE) for i in range(100)),
    lenses=tuple(
        LensReading(
            name="queue",
            reason=Reason.FOLLOWING_QUEUE,
            replicas=6,
            value=1.23456,
            target=2.0,
            unit="requests",
            note=HUGE,
        )
        for _ in range(100)
    ),
    binding_lens="queue",
    supply=Supply(ready=3, starting=1, overdue=1, terminating=1, blind=1),
    forecast=ForecastReading(
        active=True,
        horizon_s=170.0,
        demand_now_tokens_per_s=1000.0,
        demand_p50_tokens_per_s=1200.0,
        demand_p90_tokens_per_s=1512.345,
        replicas=6,
        skill_ratio=0.81,
        method="seasonal",
        note=HUGE,
    ),
    capacity=Capacity(tokens_per_s=2345.678, regime="kv", windows=12),
    lead_times=tuple(
        LeadTime(tier=Tier.WARM, node_class=HUGE, p50_s=100.0, p80_s=170.0, p95_s=200.0, starts=7) for _ in range(100)
    ),
    replicas_min=1,
    replicas_max=10,
    victim="llama-1",
    revisit_at_s=NOW_S + 60,
    would_change=(HUGE,) * 100,
)
FULL_REPORT = report(
    FULL,
    policy_generation=3,
    target="Deployment team-a/llama-predictor",
    observed_generation=2,
    incumbent_replicas=4,
    freshness=Freshness(
        pods_scraped=2,
        pods_blind=1,
        oldest_sample_age_s=2.123456,
        scrape_failures={f"Kind{i}": i for i in range(100)},
        upstream_waiting_requests=12.0,
        upstream_age_s=1.23456,
        upstream_problem=HUGE,
    ),
    learned={"noise": [i * 1.23456789 for i in range(2_000)]},
)


@pytest.mark.parametrize(
    "given_report",
    [
        pytest.param(FULL_REPORT, id="everything"),
        pytest.param(report(decision()), id="little"),
        pytest.param(report(), id="nothing"),
        pytest.param(report(refusal=Problem(reason="HPAConflict", message=HUGE)), id="refused"),
    ],
)
def test_every_field_of_a_status_is_in_the_crd(given_report: ServiceReport) -> None:
    status = render(given_report, {}, NOW_S)

    jsonschema.validate(status, closed(STATUS_SCHEMA))


def test_a_status_is_small_whatever_it_is_made_of() -> None:
    status = render(FULL_REPORT, {}, NOW_S)
    for second in range(100):
        wanted = replace(FULL, replicas=5 + second % 2)
        status = render(replace(FULL_REPORT, decision=wanted), status, NOW_S + second)

    assert len(str(status)) < STATUS_MAX_CHARS
    assert len(status["recentChanges"]) == CHANGES_MAX


def test_figures_carry_no_more_digits_than_people_read() -> None:
    status = render(FULL_REPORT, {}, NOW_S)

    assert status["capacity"]["tokensPerSecond"] == 2346.0
    assert status["freshness"]["oldestSampleAgeSeconds"] == 2.123
    assert status["forecast"]["demandP90TokensPerSecond"] == 1512.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), None])
def test_a_figure_that_is_none_is_absent(bad: float | None) -> None:
    status = render(report(decision(capacity=Capacity(tokens_per_s=bad))), {}, NOW_S)

    assert "tokensPerSecond" not in status["capacity"]


def test_the_columns_are_short_texts() -> None:
    prior = LeadTime(tier=Tier.COLD, node_class="", p50_s=180.0, p80_s=180.0, p95_s=180.0, starts=0)

    assert render(FULL_REPORT, {}, NOW_S)["summary"] == {"forecast": "6", "lead": "2m50s"}
    assert render(report(decision(lead_times=(prior,))), {}, NOW_S)["summary"] == {"forecast": "off", "lead": "~3m00s"}


@pytest.mark.parametrize(
    ("mode", "wanted", "said"),
    [
        (Mode.DIRECT, 5, "3 → 5: waiting requests ask for this many replicas (queue)"),
        (Mode.ADVISE, 5, "3 → would be 5: waiting requests ask for this many replicas (queue)"),
        (Mode.DIRECT, 3, "stays at 3: waiting requests ask for this many replicas (queue)"),
    ],
)
def test_the_message_is_one_line_for_people(mode: Mode, wanted: int, said: str) -> None:
    decided = decision(wanted, reason=Reason.FOLLOWING_QUEUE, binding_lens="queue")

    assert render(report(decided, mode=mode), {}, NOW_S)["message"] == said


PROBLEM = Problem(reason="Trouble", message="Deployment team-a/llama: in the way")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("enrolment_problem", "Trouble"),
        ("refusal", "Trouble"),
        ("scale_problem", "Trouble"),
        ("policy_problem", "Steady"),
    ],
)
def test_what_stops_scaling_is_the_reason(name: str, reason: str) -> None:
    status = render(report(decision(), **{name: PROBLEM}), {}, NOW_S)

    assert status["reason"] == reason


def test_a_policy_that_was_never_good_is_the_reason() -> None:
    status = render(report(policy_problem=PROBLEM), {}, NOW_S)

    assert (status["reason"], status["message"]) == (PROBLEM.reason, PROBLEM.message)


def test_the_last_decision_stays_readable_while_nothing_can_be_decided() -> None:
    before = render(FULL_REPORT, {}, NOW_S)

    status = render(report(refusal=PROBLEM), before, NOW_S + 60)

    assert status["decision"] == before["decision"]
    assert status["replicas"] == before["replicas"]
    assert status["reason"] == "Trouble"


def test_changes_are_kept_newest_first() -> None:
    first = render(report(decision(5, reason=Reason.FOLLOWING_QUEUE)), {}, NOW_S)
    second = render(report(decision(4, current=5, reason=Reason.FOLLOWING_TOKENS)), first, NOW_S + 60)
    third = render(report(decision(4, current=4)), second, NOW_S + 120)

    assert [(c["before"], c["after"], c["reason"]) for c in third["recentChanges"]] == [
        (5, 4, "FollowingTokens"),
        (3, 5, "FollowingQueue"),
    ]


def test_advice_that_nobody_follows_is_one_change() -> None:
    status: Mapping[str, Any] = {}
    for minute in range(5):
        status = render(
            report(decision(5, reason=Reason.FOLLOWING_QUEUE), mode=Mode.ADVISE), status, NOW_S + 60 * minute
        )

    assert len(status["recentChanges"]) == 1


@pytest.mark.parametrize("more", [{"refusal": PROBLEM}, {"scale_problem": PROBLEM}, {"mode": Mode.OBSERVE}])
def test_what_was_not_done_is_no_change(more: dict[str, Any]) -> None:
    assert render(report(decision(5), **more), {}, NOW_S)["recentChanges"] == []


def test_what_was_learned_is_written_once_a_minute_and_at_the_end() -> None:
    first = render(report(decision(), learned={"n": 1}), {}, NOW_S)
    early = render(report(decision(), learned={"n": 2}), first, NOW_S + REFRESH_S - 1)
    due = render(report(decision(), learned={"n": 3}), early, NOW_S + REFRESH_S)
    last = render(report(decision(), learned={"n": 4}, is_last=True), due, NOW_S + REFRESH_S + 1)
    without = render(report(decision()), last, NOW_S + 3 * REFRESH_S)

    kept = [unpack(status["learned"])["n"] for status in (first, early, due, last, without)]
    assert kept == [1, 1, 3, 4, 4]


def test_too_much_learned_keeps_what_there_was() -> None:
    first = render(report(decision(), learned={"n": 1}), {}, NOW_S)

    status = render(report(decision(), learned={"x": "x" * 2_000_000}), first, NOW_S + 100)

    assert unpack(status["learned"]) == {"n": 1}


WRITTEN = render(FULL_REPORT, {}, NOW_S)


@pytest.mark.parametrize(
    ("later", "after_s", "is_written"),
    [
        pytest.param(FULL_REPORT, 1.0, False, id="nothing new"),
        pytest.param(FULL_REPORT, REFRESH_S - 1, False, id="just before the refresh"),
        pytest.param(FULL_REPORT, REFRESH_S, True, id="at the refresh"),
        pytest.param(FULL_REPORT, -REFRESH_S, True, id="a clock that went back"),
        pytest.param(replace(FULL_REPORT, freshness=Freshness(pods_scraped=2)), 1.0, False, id="figures moved"),
        pytest.param(
            replace(FULL_REPORT, decision=replace(FULL, reason=Reason.STEADY)),
            REASON_SPACING_S - 1,
            False,
            id="a reason that flaps",
        ),
        pytest.param(
            replace(FULL_REPORT, decision=replace(FULL, reason=Reason.STEADY)),
            REASON_SPACING_S,
            True,
            id="a reason that stays",
        ),
        pytest.param(replace(FULL_REPORT, decision=replace(FULL, replicas=6)), 0.0, True, id="another number"),
        pytest.param(
            replace(FULL_REPORT, decision=replace(FULL, supply=Supply(ready=4))), 0.0, True, id="a replica got ready"
        ),
        pytest.param(replace(FULL_REPORT, refusal=PROBLEM), 0.0, True, id="refused"),
        pytest.param(replace(FULL_REPORT, mode=Mode.ADVISE), 0.0, True, id="another mode"),
        pytest.param(replace(FULL_REPORT, policy_generation=4), 0.0, True, id="a new policy"),
    ],
)
def test_status_is_written_when_an_operator_cares(later: ServiceReport, after_s: float, is_written: bool) -> None:
    status = render(later, WRITTEN, NOW_S + after_s)

    assert needs_write(WRITTEN, status, NOW_S + after_s) is is_written


def test_the_first_status_is_always_written() -> None:
    assert needs_write({}, WRITTEN, NOW_S)
    assert needs_write({"time": "yesterday"}, WRITTEN, NOW_S)


def merged(target: Any, patch: Any) -> Any:
    """JSON merge patch, RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


DOCUMENTS = st.recursive(
    st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.sampled_from("abcd"), DOCUMENTS, max_size=4)


@given(before=OBJECTS, after=OBJECTS)
def test_the_patch_makes_the_old_status_the_new_one(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert merged(before, status_patch(before, after)) == after


def test_every_reason_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Reason)
    assert all(text and not text.endswith(".") for text in SENTENCES.values())


def test_a_reason_of_a_newer_controller_speaks_for_itself() -> None:
    assert sentence("FromTheFuture") == "FromTheFuture"
