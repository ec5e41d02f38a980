"""A ScaledService object → plain text that says why the service has its replicas. Pure; every table is aligned."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from autoscaler.sentences import sentence
from autoscaler.status import (
    DecisionStatus,
    ForecastStatus,
    FreshnessStatus,
    LensStatus,
    ModelStatus,
    ScaledServiceStatus,
)
from autoscaler.timestamps import duration, unix_s

UNKNOWN = "-"
# A status older than this is not what the controller thinks now: it writes at least once a minute.
STALE_STATUS_S = 180.0


def explain(scaled_service: Mapping[str, Any], now_s: float) -> str:
    """The whole answer."""
    metadata = scaled_service["metadata"]
    service = f"{metadata.get('namespace', 'default')}/{metadata['name']}"
    status = cast(ScaledServiceStatus, scaled_service.get("status") or {})
    if not status:
        return (
            f"{service}: no controller has looked at it yet. Is one running, and may it read this namespace?\n"
            "`warmtide check` examines the cluster.\n"
        )
    sections = [_header(service, status, now_s), _observed(status)]
    if "decision" in status:
        decision = status["decision"]
        sections += [
            _lenses(decision),
            _steps(decision),
            _lead_times(status),
            _model(status.get("model")),
            _forecast(status.get("forecast")),
        ]
    sections += [_conditions(status, now_s), _would_change(status, now_s), _recent_changes(status, now_s)]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def as_json(scaled_service: Mapping[str, Any]) -> dict[str, Any]:
    """The same for programs: the status without its opaque part, and a sentence beside every step."""
    metadata, status = scaled_service["metadata"], dict(scaled_service.get("status") or {})
    status.pop("learned", None)
    decision = status.get("decision")
    if decision:
        steps = [step | {"sentence": sentence(step["reason"])} for step in decision.get("steps", [])]
        status["decision"] = decision | {"steps": steps}
    return {"service": f"{metadata.get('namespace', 'default')}/{metadata['name']}"} | status


def table(rows: Iterable[Sequence[str]], indent: str = "  ") -> list[str]:
    """Rows as aligned columns, without spaces at the ends of lines."""
    filled = [list(row) for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*filled, strict=True)]
    return [
        (indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in filled
    ]


def _header(service: str, status: ScaledServiceStatus, now_s: float) -> list[str]:
    decision = status.get("decision", {})
    lines = [f"{service}: {status.get('message', UNKNOWN)}"]
    generation = f" (generation {status['policyGeneration']})" if status.get("policyGeneration") else ""
    about = [f"mode {status.get('mode', UNKNOWN)}", f"policy {status.get('policy') or 'none'}{generation}"]
    if status.get("target"):
        about.append(f"scales {status['target']}")
    lines.append("  " + ", ".join(about))
    if "time" in decision:
        lines.append(f"  reason {status.get('reason', UNKNOWN)}, last decision {_ago(decision['time'], now_s)}")
    written_s = unix_s(status.get("time", ""))
    if written_s is not None and now_s - written_s > STALE_STATUS_S:
        lines.append(f"  ! this was written {_ago(status['time'], now_s)}: is the controller running?")
    return lines


def _observed(status: ScaledServiceStatus) -> list[str]:
    rows = _replicas(status)
    fresh = status.get("freshness", {})
    if fresh:
        age_s = fresh.get("oldestSampleAgeSeconds")
        oldest = f", the oldest {duration(age_s)} old" if age_s is not None else ""
        blind = f"{fresh.get('podsBlind', 0)} blind"
        rows.append(("samples", f"{fresh.get('podsScraped', 0)} pods fresh{oldest}; {blind}"))
    failures = fresh.get("scrapeFailures")
    if failures:
        rows.append(("failures", ", ".join(f"{kind} ×{count}" for kind, count in sorted(failures.items()))))
    if fresh.get("historyProblem"):
        rows.append(("history", fresh["historyProblem"]))
    if upstream := _upstream(fresh):
        rows.append(("upstream", upstream))
    capacity = status.get("capacity", {})
    if "tokensPerSecond" in capacity:
        limited = f", limited by {capacity['regime']}" if capacity.get("regime") else ""
        learned = f"{capacity['tokensPerSecond']:g} tokens/s a replica{limited}"
        rows.append(("capacity", f"{learned} (learned from {capacity.get('windows', 0)} windows)"))
    return ["Observed", *table(rows)] if rows else []


def _upstream(fresh: FreshnessStatus) -> str:
    """What waits before the pods; empty where nobody asks."""
    waiting, age_s = fresh.get("upstreamWaitingRequests"), fresh.get("upstreamAgeSeconds")
    problem = fresh.get("upstreamProblem")
    if waiting is not None:
        noun = "request waits" if waiting == 1 else "requests wait"
        said = f"{waiting:g} {noun}, {duration(age_s or 0.0)} ago"
        return f"{said}; since then: {problem}" if problem else said
    last = f" (last answer {duration(age_s)} ago)" if age_s is not None else ""
    return f"unknown{last}: {problem}" if problem else ""


def _replicas(status: ScaledServiceStatus) -> list[tuple[str, str]]:
    counts = dict(status.get("replicas", {}))
    if not counts:
        return []
    current, desired, incumbent = (counts.pop(key, None) for key in ("current", "desired", "incumbent"))
    phases = ", ".join(f"{count} {phase}" for phase, count in counts.items() if count or phase == "ready")
    rows = [("replicas", f"{current} asked for, {desired} wanted; {phases}")]
    if incumbent is not None:
        rows.append(("incumbent", f"whoever scales today wants {incumbent}"))
    return rows


def _lenses(decision: DecisionStatus) -> list[str]:
    lenses = decision.get("lenses", [])
    if not lenses:
        return []
    rows = [["lens", "asks for", "value", "target", "unit", ""]]
    rows += [_lens_row(lens, binds=lens.get("name") == decision.get("bindingLens")) for lens in lenses]
    return ["Lenses: what each signal alone would ask for", *table(rows)]


def _lens_row(lens: LensStatus, *, binds: bool) -> list[str]:
    value, target = (UNKNOWN if figure is None else f"{figure:g}" for figure in (lens.get("value"), lens.get("target")))
    remark = ", ".join(part for part in ("<- binds" if binds else "", lens.get("note", "")) if part)
    return [lens.get("name", UNKNOWN), str(lens.get("replicas", UNKNOWN)), value, target, lens.get("unit", ""), remark]


def _steps(decision: DecisionStatus) -> list[str]:
    rows, number = [], decision.get("current", 0)
    for step in decision.get("steps", []):
        detail = f" ({step['detail']})" if step["detail"] else ""
        rows.append([str(number), "->", str(step["replicas"]), step["reason"], sentence(step["reason"]) + detail])
        number = step["replicas"]
    low, high = decision.get("replicasMin", UNKNOWN), decision.get("replicasMax", UNKNOWN)
    head = f"Steps from {decision.get('current', UNKNOWN)} to {decision.get('replicas', UNKNOWN)} replicas"
    lines = [f"{head}, within {low} to {high}", *table(rows)]
    if "victim" in decision:
        lines.append(f"  first to go: {decision['victim']}")
    return lines


def _lead_times(status: ScaledServiceStatus) -> list[str]:
    leads = status.get("leadTimes", [])
    if not leads:
        return []
    rows = [["tier", "node class", "p50", "p80", "p95", "from"]]
    rows += [
        [
            lead["tier"],
            lead["nodeClass"] or "any",
            *(duration(seconds) for seconds in (lead["p50Seconds"], lead["p80Seconds"], lead["p95Seconds"])),
            f"{lead['starts']} starts" if lead["starts"] else "the policy's prior",
        ]
        for lead in leads
    ]
    return ["Lead time: from asking for a replica to it being ready", *table(rows)]


def _model(model: ModelStatus | None) -> list[str]:
    if model is None:
        return []
    nodes = "1 node" if model["warmNodes"] == 1 else f"{model['warmNodes']} nodes"
    whose = f"ModelCache {model['cache']}" if "cache" in model else "kept by their agents"
    next_one = f"the next replica is expected to start {model['nextTier']}"
    where = f" on {model['nextNodeClass']}" if model.get("nextNodeClass") else ""
    return ["Weights", f"  on {nodes} ({whose}); {next_one}{where}"]


def _forecast(forecast: ForecastStatus | None) -> list[str]:
    if forecast is None:
        return []
    note = f": {forecast['note']}" if forecast.get("note") else ""
    if not forecast.get("active"):
        return [f"Forecast: off{note}"]
    horizon = duration(forecast.get("horizonSeconds", 0))
    lines = [f"Forecast for {horizon} ahead: asks for {forecast.get('replicas', UNKNOWN)}{note}"]
    figures = {
        "now": forecast.get("demandNowTokensPerSecond"),
        "expected": forecast.get("demandP50TokensPerSecond"),
        "p90": forecast.get("demandP90TokensPerSecond"),
    }
    demand = [f"{name} {figure:g}" for name, figure in figures.items() if figure is not None]
    if demand:
        lines.append(f"  demand in tokens/s: {', '.join(demand)}")
    if "skill" in forecast:
        lines.append(f"  error against the naive forecast: ×{forecast['skill']:g} ({forecast.get('method', UNKNOWN)})")
    return lines


def _conditions(status: ScaledServiceStatus, now_s: float) -> list[str]:
    rows = [
        [c["type"], c["status"], c["reason"], f"{c['message']} (for {_since(c['lastTransitionTime'], now_s)})"]
        for c in status.get("conditions", [])
    ]
    return ["Conditions", *table(rows)] if rows else []


def _would_change(status: ScaledServiceStatus, now_s: float) -> list[str]:
    decision = status.get("decision", {})
    lines = [f"  {text}" for text in decision.get("wouldChange", [])]
    revisit_s = unix_s(decision.get("revisitAt", ""))
    if revisit_s is not None:
        when = f"in {duration(revisit_s - now_s)}" if revisit_s > now_s else "now"
        lines.append(f"  time alone could change it {when}")
    return ["What would change it", *lines] if lines else []


def _recent_changes(status: ScaledServiceStatus, now_s: float) -> list[str]:
    rows = [
        [_ago(change["time"], now_s), change["reason"], change["message"]] for change in status.get("recentChanges", [])
    ]
    return ["Recent changes", *table(rows)] if rows else []


def _since(text: str, now_s: float) -> str:
    at_s = unix_s(text)
    return UNKNOWN if at_s is None else duration(max(0.0, now_s - at_s))


def _ago(text: str, now_s: float) -> str:
    return f"{_since(text, now_s)} ago"
