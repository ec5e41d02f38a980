"""What one pass found out → `ScaledService.status`. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from autoscaler.caching.sight import ModelSight
from autoscaler.conditions import Problem, conditions_of
from autoscaler.errors import shorten
from autoscaler.learned import pack
from autoscaler.policy.spec import Mode
from autoscaler.policy.types import Capacity, Decision, ForecastReading, LeadTime, LensReading
from autoscaler.sentences import sentence
from autoscaler.status import (
    CapacityStatus,
    ChangeStatus,
    ConditionStatus,
    DecisionStatus,
    ForecastStatus,
    FreshnessStatus,
    LeadTimeStatus,
    LensStatus,
    ModelStatus,
    ReplicasStatus,
    ScaledServiceStatus,
    SummaryStatus,
)
from autoscaler.status_changes import REFRESH_S
from autoscaler.timestamps import duration, rfc3339, unix_s

# All lists and texts are bounded, so that a status stays far below what etcd takes (1.5 MiB).
STEPS_MAX, LENSES_MAX, LEAD_TIMES_MAX, SENTENCES_MAX, FAILURE_KINDS_MAX = 24, 12, 16, 8, 16
CHANGES_MAX = 10
TEXT_MAX_CHARS = 300
STATUS_MAX_CHARS = 128 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """How well the service is seen."""

    pods_scraped: int = 0
    pods_blind: int = 0
    pods_new: int = 0  # of the blind: ready for a moment only, and not heard yet
    oldest_sample_age_s: float | None = None
    scrape_failures: Mapping[str, int] = field(default_factory=dict)  # pods by kind of failure
    history_problem: str = ""  # why demand of the past could not be read; empty: nothing is wrong
    upstream_waiting_requests: float | None = None  # None: unknown, or nobody is asked
    upstream_age_s: float | None = None  # of the last answer
    upstream_problem: str = ""  # why the last query gave no answer; empty: it did, or nobody is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceReport:
    """All that one pass over a service found out."""

    service: str  # namespace/name
    mode: Mode
    policy: str  # namespace/name of the ScalingPolicy in force
    policy_generation: int = 0
    target: str = ""  # e.g. Deployment team-a/llama-predictor
    observed_generation: int = 0
    decision: Decision | None = None  # None: nothing could be decided; a problem says why
    freshness: Freshness = field(default_factory=Freshness)
    incumbent_replicas: int | None = None
    model: ModelSight | None = None  # None: nobody keeps its weights on nodes
    policy_problem: Problem | None = None  # the newest policy cannot be used; the last good one stays in force
    enrolment_problem: Problem | None = None  # the workload is missing, the annotation is bad …
    refusal: Problem | None = None  # someone else scales this workload …
    scale_problem: Problem | None = None  # the patch was refused
    learned: Mapping[str, Any] | None = None
    is_last: bool = False  # shutting down: write what was learned now


def render(report: ServiceReport, previous: Mapping[str, Any], now_s: float) -> ScaledServiceStatus:
    """The new status; what must outlive a pass is taken over from the previous one."""
    before = cast(ScaledServiceStatus, previous)
    decision = report.decision
    reason, message = _headline(report)
    status: ScaledServiceStatus = {
        "mode": report.mode.value,
        "policy": report.policy,
        "policyGeneration": report.policy_generation,
        "target": report.target,
        "observedGeneration": report.observed_generation,
        "time": rfc3339(now_s),
        "reason": reason,
        "message": message,
        "freshness": _freshness(report.freshness),
        "conditions": _conditions(report, before.get("conditions", []), now_s),
        "recentChanges": list(before.get("recentChanges", []))[:CHANGES_MAX],
    }
    if decision is not None:
        status |= _decided(decision, report)
        status["recentChanges"] = _changes(report, decision, before, now_s)
    elif "decision" in before:
        status |= _kept(before)
    return status | _learned(report, before, now_s)


def _headline(report: ServiceReport) -> tuple[str, str]:
    """Reason and one line: a problem that stops scaling speaks first."""
    for problem in (report.enrolment_problem, report.refusal, report.scale_problem):
        if problem is not None:
            return problem.reason, shorten(problem.message, TEXT_MAX_CHARS)
    decision = report.decision
    if decision is None:
        problem = report.policy_problem or Problem(reason="NotObserved", message="nothing was observed yet")
        return problem.reason, shorten(problem.message, TEXT_MAX_CHARS)
    return decision.reason.value, _line(decision, report.mode)


def _line(decision: Decision, mode: Mode) -> str:
    now, wanted = decision.current_replicas, decision.replicas
    verb = "" if mode is Mode.DIRECT else "would be "
    number = f"stays at {now}" if now == wanted else f"{now} → {verb}{wanted}"
    lens = f" ({decision.binding_lens})" if decision.binding_lens else ""
    return shorten(f"{number}: {sentence(decision.reason)}{lens}", TEXT_MAX_CHARS)


def _decided(decision: Decision, report: ServiceReport) -> ScaledServiceStatus:
    supply = decision.supply
    replicas = {
        "current": decision.current_replicas,
        "desired": decision.replicas,
        "ready": supply.ready,
        "starting": supply.starting,
        "asleep": supply.asleep,
        "overdue": supply.overdue,
        "terminating": supply.terminating,
        "blind": supply.blind,
        "incumbent": report.incumbent_replicas,
    }
    status: ScaledServiceStatus = {
        "summary": _summary(decision),
        "replicas": cast(ReplicasStatus, _present(replicas)),
        "decision": _decision(decision),
        "capacity": _capacity(decision.capacity),
        "leadTimes": [_lead_time(lead) for lead in decision.lead_times[:LEAD_TIMES_MAX]],
    }
    if report.model is not None:
        status["model"] = _model(report.model)
    return status | ({"forecast": _forecast(decision.forecast)} if decision.forecast else {})


def _model(model: ModelSight) -> ModelStatus:
    status: ModelStatus = {"key": model.key, "warmNodes": len(model.usable)}
    if model.cache:
        status["cache"] = model.cache
    if model.landing is not None:
        status["nextTier"], status["nextNodeClass"] = model.landing.tier.value, shorten(model.landing.node_class)
    return status


def _decision(decision: Decision) -> DecisionStatus:
    revisit_at_s = decision.revisit_at_s
    fields = {
        "time": rfc3339(decision.decided_at_s),
        "current": decision.current_replicas,
        "replicas": decision.replicas,
        "reason": decision.reason.value,
        "bindingLens": decision.binding_lens,
        "steps": [
            {"replicas": step.replicas, "reason": step.reason.value, "detail": shorten(step.detail, TEXT_MAX_CHARS)}
            for step in decision.steps[:STEPS_MAX]
        ],
        "lenses": [_lens(lens) for lens in decision.lenses[:LENSES_MAX]],
        "replicasMin": decision.replicas_min,
        "replicasMax": decision.replicas_max,
        "victim": decision.victim,
        "revisitAt": None if revisit_at_s is None else rfc3339(revisit_at_s),
        "wouldChange": [shorten(text, TEXT_MAX_CHARS) for text in decision.would_change[:SENTENCES_MAX]],
    }
    return cast(DecisionStatus, _present(fields))


def _lens(lens: LensReading) -> LensStatus:
    fields = {
        "name": lens.name,
        "reason": lens.reason.value,
        "replicas": lens.replicas,
        "value": _figure(lens.value),
        "target": _figure(lens.target),
        "unit": lens.unit or None,
        "note": shorten(lens.note, TEXT_MAX_CHARS) or None,
    }
    return cast(LensStatus, _present(fields))


def _forecast(reading: ForecastReading) -> ForecastStatus:
    fields = {
        "active": reading.active,
        "horizonSeconds": _figure(reading.horizon_s),
        "demandNowTokensPerSecond": _figure(reading.demand_now_tokens_per_s),
        "demandP50TokensPerSecond": _figure(reading.demand_p50_tokens_per_s),
        "demandP90TokensPerSecond": _figure(reading.demand_p90_tokens_per_s),
        "replicas": reading.replicas,
        "skill": _figure(reading.skill_ratio),
        "method": reading.method or None,
        "note": shorten(reading.note, TEXT_MAX_CHARS) or None,
    }
    return cast(ForecastStatus, _present(fields))


def _capacity(capacity: Capacity) -> CapacityStatus:
    fields = {
        "tokensPerSecond": _figure(capacity.tokens_per_s),
        "regime": capacity.regime or None,
        "windows": capacity.windows,
    }
    return cast(CapacityStatus, _present(fields))


def _lead_time(lead: LeadTime) -> LeadTimeStatus:
    return {
        "tier": lead.tier.value,
        "nodeClass": shorten(lead.node_class),
        "p50Seconds": _figure(lead.p50_s) or 0.0,
        "p80Seconds": _figure(lead.p80_s) or 0.0,
        "p95Seconds": _figure(lead.p95_s) or 0.0,
        "starts": lead.starts,
    }


def _summary(decision: Decision) -> SummaryStatus:
    forecast, leads = decision.forecast, decision.lead_times
    summary: SummaryStatus = {"forecast": "off"}
    if forecast is not None and forecast.active and forecast.replicas is not None:
        summary["forecast"] = str(forecast.replicas)
    if leads:
        slowest = max(leads, key=lambda lead: (lead.starts > 0, lead.p80_s))
        summary["lead"] = ("" if slowest.starts else "~") + duration(slowest.p80_s)
    return summary


def _freshness(seen: Freshness) -> FreshnessStatus:
    failures = sorted(seen.scrape_failures.items(), key=lambda item: -item[1])[:FAILURE_KINDS_MAX]
    fields = {
        "podsScraped": seen.pods_scraped,
        "podsBlind": seen.pods_blind,
        "oldestSampleAgeSeconds": _figure(seen.oldest_sample_age_s),
        "scrapeFailures": {shorten(kind): count for kind, count in failures},
        "historyProblem": shorten(seen.history_problem, TEXT_MAX_CHARS) or None,
        "upstreamWaitingRequests": _figure(seen.upstream_waiting_requests),
        "upstreamAgeSeconds": _figure(seen.upstream_age_s),
        "upstreamProblem": shorten(seen.upstream_problem, TEXT_MAX_CHARS) or None,
    }
    return cast(FreshnessStatus, _present(fields))


def _changes(
    report: ServiceReport, decision: Decision, before: ScaledServiceStatus, now_s: float
) -> list[ChangeStatus]:
    """The list of changes, with this one in front when it is one."""
    known = list(before.get("recentChanges", []))
    wanted_before = before.get("replicas", {}).get("desired", decision.current_replicas)
    stopped = report.refusal or report.scale_problem or report.enrolment_problem
    if decision.replicas == wanted_before or stopped or report.mode is Mode.OBSERVE:
        return known[:CHANGES_MAX]
    change: ChangeStatus = {
        "time": rfc3339(now_s),
        "before": wanted_before,
        "after": decision.replicas,
        "reason": decision.reason.value,
        "message": _line(decision, report.mode),
    }
    return [change, *known][:CHANGES_MAX]


def _kept(before: ScaledServiceStatus) -> ScaledServiceStatus:
    """What stays readable while nothing can be decided: the last decision, with its time."""
    keys = ("summary", "replicas", "decision", "forecast", "leadTimes", "model", "capacity")
    return cast(ScaledServiceStatus, {key: before[key] for key in keys if key in before})  # type: ignore[literal-required]  # keys are those of the type


def _conditions(report: ServiceReport, known: Sequence[ConditionStatus], now_s: float) -> list[ConditionStatus]:
    """Conditions; the time of one moves only when its status does."""
    since = {(old["type"], old["status"]): old["lastTransitionTime"] for old in known}
    seen = report.freshness
    facts = conditions_of(
        mode=report.mode,
        decision=report.decision,
        pods_new=seen.pods_new,
        upstream_problem=seen.upstream_problem if seen.upstream_waiting_requests is None else "",
        problems={
            "policy": report.policy_problem,
            "enrolment": report.enrolment_problem,
            "refusal": report.refusal,
            "scale": report.scale_problem,
        },
    )
    return [
        {
            "type": fact.type,
            "status": fact.status,
            "reason": fact.reason,
            "message": shorten(fact.message, TEXT_MAX_CHARS),
            "lastTransitionTime": since.get((fact.type, fact.status), rfc3339(now_s)),
            "observedGeneration": report.observed_generation,
        }
        for fact in facts
    ]


def _learned(report: ServiceReport, before: ScaledServiceStatus, now_s: float) -> ScaledServiceStatus:
    written_s = unix_s(before.get("learnedTime", ""))
    is_due = report.is_last or written_s is None or abs(now_s - written_s) >= REFRESH_S
    if report.learned is not None and is_due and (text := pack(report.learned)) is not None:
        return {"learned": text, "learnedTime": rfc3339(now_s)}
    if "learned" not in before:
        return {}
    return {"learned": before["learned"], "learnedTime": before.get("learnedTime", "")}


def _figure(value: float | None) -> float | None:
    """Four significant digits: enough for people, and a status that does not change with noise."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.4g}") if abs(value) < 1e9 else float(value)


def _present(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is unknown: an absent field, not a null."""
    return {key: value for key, value in fields.items() if value is not None}
