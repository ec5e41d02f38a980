"""Whether what waits upstream of a service can be counted: by the controller, or tried from here."""

from collections.abc import Mapping
from typing import Any

from autoscaler.findings import Finding, fail, ok, warn
from autoscaler.settings import UpstreamQuery
from autoscaler.timestamps import duration
from autoscaler.upstream import Source, ask

_TODO = "mend spec.upstream.query of the policy, or Prometheus; until then the service neither shrinks nor leaves 0"


async def examine_upstream(
    key: str, query: UpstreamQuery, source: Source | None, controllers: Mapping[str, Any]
) -> Finding:
    """The query tried, where a Prometheus was given; else what the controller says lately (`status.freshness`)."""
    subject = f"{key} upstream"
    if source is not None:
        number, why = await ask(source, query.promql)
        return fail(subject, why, _TODO) if number is None else ok(subject, f"{number:g} requests wait")
    waiting = controllers.get("upstreamWaitingRequests")
    if waiting is None and (problem := controllers.get("upstreamProblem")):
        return fail(subject, f"the controller: {problem}", _TODO)
    if waiting is None:
        return warn(subject, "the query was not tried", "give --prometheus-url, the controller's own, to try it")
    age = duration(controllers.get("upstreamAgeSeconds", 0.0))
    return ok(subject, f"the controller counts {waiting:g} waiting requests, {age} before it said so")
