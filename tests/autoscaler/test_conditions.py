"""Conditions say what is wrong, Events say it once."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.conditions import Problem
from autoscaler.examples import NOW_S, decision, report
from autoscaler.policy.spec import Mode
from autoscaler.policy.types import Reason, Supply
from autoscaler.report import Freshness, ServiceReport, render
from autoscaler.status_changes import Notice, events_for


def conditions(status: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]}


GOOD = {
    "PolicyValid": ("True", "PolicyRead"),
    "Enrolled": ("True", "TargetFound"),
    "NotContested": ("True", "NoOtherScaler"),
    "DataFresh": ("True", "Fresh"),
    "ScalingActive": ("True", "Scaling"),
}
PROBLEM = Problem(reason="Trouble", message="Deployment team-a/llama: in the way")


@pytest.mark.parametrize(
    ("given_report", "different"),
    [
        pytest.param(report(decision()), {}, id="all is well"),
        pytest.param(report(decision(), mode=Mode.ADVISE), {"ScalingActive": ("False", "Advising")}, id="advise"),
        pytest.param(report(decision(), mode=Mode.OBSERVE), {"ScalingActive": ("False", "Observing")}, id="observe"),
        pytest.param(report(decision(reason=Reason.PAUSED)), {"ScalingActive": ("False", "Paused")}, id="paused"),
        pytest.param(report(decision(reason=Reason.PINNED)), {"ScalingActive": ("False", "Pinned")}, id="pinned"),
        pytest.param(
            report(decision(), policy_problem=PROBLEM), {"PolicyValid": ("False", "Trouble")}, id="bad policy"
        ),
        pytest.param(
            report(decision(), refusal=PROBLEM),
            {"NotContested": ("False", "Trouble"), "ScalingActive": ("False", "Trouble")},
            id="refused",
        ),
        pytest.param(
            report(enrolment_problem=PROBLEM),
            {
                "Enrolled": ("False", "Trouble"),
                "ScalingActive": ("False", "Trouble"),
                "DataFresh": ("Unknown", "NotObserved"),
            },
            id="no workload",
        ),
        pytest.param(
            report(decision(), scale_problem=PROBLEM), {"ScalingActive": ("False", "Trouble")}, id="patch failed"
        ),
        pytest.param(
            report(decision(supply=Supply(ready=3, blind=1))),
            {"DataFresh": ("False", "PartlyBlind")},
            id="partly blind",
        ),
        pytest.param(
            report(decision(supply=Supply(ready=3, blind=3))), {"DataFresh": ("False", "NoFreshData")}, id="blind"
        ),
        pytest.param(
            report(decision(supply=Supply(starting=3))), {"DataFresh": ("Unknown", "NoReadyPods")}, id="starting"
        ),
        pytest.param(
            report(decision(), freshness=Freshness(upstream_problem="Prometheus is away")),
            {"DataFresh": ("False", "UpstreamUnknown")},
            id="upstream unknown",
        ),
        pytest.param(
            report(decision(supply=Supply()), freshness=Freshness(upstream_problem="Prometheus is away")),
            {"DataFresh": ("False", "UpstreamUnknown")},
            id="upstream unknown at zero",
        ),
        pytest.param(
            report(
                decision(), freshness=Freshness(upstream_problem="Prometheus is away", upstream_waiting_requests=0.0)
            ),
            {},
            id="one query lost",
        ),
        pytest.param(
            report(),
            {"DataFresh": ("Unknown", "NotObserved"), "ScalingActive": ("False", "NotObserved")},
            id="nothing seen",
        ),
    ],
)
def test_conditions_say_what_is_wrong(given_report: ServiceReport, different: dict[str, tuple[str, str]]) -> None:
    assert conditions(render(given_report, {}, NOW_S)) == GOOD | different


def test_a_condition_keeps_its_time_until_its_status_changes() -> None:
    first = render(report(decision()), {}, NOW_S)
    same = render(report(decision()), first, NOW_S + 60)
    blind = render(report(decision(supply=Supply(ready=3, blind=3))), same, NOW_S + 120)

    times = [{c["type"]: c["lastTransitionTime"] for c in s["conditions"]} for s in (first, same, blind)]
    assert times[0] == times[1]
    assert times[2]["DataFresh"] != times[1]["DataFresh"]
    assert times[2]["Enrolled"] == times[1]["Enrolled"]


def test_an_event_says_why_the_number_changed() -> None:
    before = render(report(decision()), {}, NOW_S)
    after = render(report(decision(5, reason=Reason.FOLLOWING_QUEUE)), before, NOW_S)

    assert events_for(before, after) == (
        Notice(
            type="Normal",
            reason="FollowingQueue",
            message="3 → 5: waiting requests ask for this many replicas",
        ),
    )


def test_the_same_reason_again_is_no_event_but_the_other_direction_is() -> None:
    start = render(report(decision()), {}, NOW_S)
    up = render(report(decision(5, reason=Reason.FOLLOWING_TOKENS)), start, NOW_S)
    more = render(report(decision(7, current=5, reason=Reason.FOLLOWING_TOKENS)), up, NOW_S + 1)
    down = render(report(decision(6, current=7, reason=Reason.FOLLOWING_TOKENS)), more, NOW_S + 2)

    assert len(events_for(start, up)) == 1
    assert events_for(up, more) == ()
    assert len(events_for(more, down)) == 1
    assert events_for(down, down) == ()


def test_a_problem_is_one_warning_when_it_begins_and_one_line_when_it_ends() -> None:
    good = render(report(decision()), {}, NOW_S)
    bad = render(report(decision(), refusal=PROBLEM), good, NOW_S)
    still = render(report(decision(), refusal=PROBLEM), bad, NOW_S + 60)
    other = render(report(decision(), refusal=replace(PROBLEM, reason="Other")), still, NOW_S + 120)

    assert events_for(good, bad) == (Notice(type="Warning", reason="Trouble", message=PROBLEM.message),)
    assert events_for(bad, still) == ()
    assert [n.reason for n in events_for(still, other)] == ["Other"]
    assert {n.type for n in events_for(other, good)} == {"Normal"}


@pytest.mark.parametrize(
    "quiet",
    [
        report(decision(), mode=Mode.ADVISE),
        report(decision(), mode=Mode.OBSERVE),
        report(decision(reason=Reason.PAUSED)),
    ],
)
def test_what_someone_asked_for_is_no_warning(quiet: ServiceReport) -> None:
    good = render(report(decision()), {}, NOW_S)

    assert events_for(good, render(quiet, good, NOW_S)) == ()
    assert events_for({}, render(quiet, {}, NOW_S)) == ()
