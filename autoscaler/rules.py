"""Rules between fields, once for the API server (CEL, in the CRDs) and once for the controller, side by side.

A test holds the two against each other on generated objects.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule. `at` is the place in spec that carries the CEL; `check` sees the whole spec, defaults filled in."""

    at: tuple[str, ...]
    cel: str
    message: str  # the API server's words
    field: str  # what the controller names
    check: Callable[[Spec], str | None] | None = None  # the controller's words when broken


def broken_rule(rules: Iterable[Rule], spec: Spec) -> tuple[str, str] | None:
    """Field and message of the first rule that the spec breaks."""
    for rule in rules:
        message = rule.check(spec) if rule.check else None
        if message:
            return rule.field, message
    return None


def _min_exceeds_max(spec: Spec) -> str | None:
    low, high = spec["replicas"]["min"], spec["replicas"]["max"]
    if low is None or high is None or low <= high:
        return None
    return f"must not exceed spec.replicas.max ({high})"


def _zero_against_min(spec: Spec) -> str | None:
    low = spec["replicas"]["min"]
    if not spec["zero"]["enabled"] or not low:
        return None
    return f"needs spec.replicas.min to be 0 or absent, not {low}"


def _zero_without_upstream(spec: Spec) -> str | None:
    if not spec["zero"]["enabled"] or spec["upstream"]:
        return None
    return (
        "needs spec.upstream.query: nothing else would wake the service; give a PromQL query for the requests that "
        'wait before its pods, such as sum(llm_d_epp_flow_control_queue_size{namespace="team-a"})'
    )


def _slower_than_age(section: str, period: str) -> Callable[[Spec], str | None]:
    def check(spec: Spec) -> str | None:
        period_s, max_age_s = (spec[section] or {}).get(period), spec["targets"]["maxAgeSeconds"]
        if period_s is None or period_s < max_age_s:
            return None
        return f"must be below spec.targets.maxAgeSeconds ({max_age_s:g}), or every sample would be too old"

    return check


def _tls_only(field: str) -> Callable[[Spec], str | None]:
    def check(spec: Spec) -> str | None:
        if not spec["metrics"][field] or spec["metrics"]["scheme"] == "https":
            return None
        return "has a meaning only with spec.metrics.scheme https"

    return check


def _ca_and_no_verification(spec: Spec) -> str | None:
    if not (spec["metrics"]["caFile"] and spec["metrics"]["insecureSkipVerify"]):
        return None
    return "contradicts spec.metrics.insecureSkipVerify: true"


def _same_names(spec: Spec) -> str | None:
    names = [window["name"] for window in spec["schedules"]]
    twice = sorted({name for name in names if names.count(name) > 1})
    return f"has more than one window named {', '.join(twice)}" if twice else None


def _kind_against_version(spec: Spec) -> str | None:
    reference = spec["targetRef"]
    if (reference["kind"] == "Deployment") == (reference["apiVersion"] == "apps/v1"):
        return None
    return f"is no kind of {reference['apiVersion']}"


def _same_times(spec: Spec) -> str | None:
    same = [window["name"] for window in spec["schedules"] if window["start"].split() == window["end"].split()]
    return f"has a window, {same[0]}, that starts and ends at the same times" if same else None


def _below_age(section: str, period: str, max_age_s: float) -> str:
    """CEL for a period of a section that must be below spec.targets.maxAgeSeconds, or its default."""
    age = f"(has(self.targets) && has(self.targets.maxAgeSeconds) ? self.targets.maxAgeSeconds : {max_age_s!r})"
    return f"!has(self.{section}) || !has(self.{section}.{period}) || self.{section}.{period} < {age}"


def policy_rules(*, max_age_s: float) -> tuple[Rule, ...]:
    """Rules of a ScalingPolicy, given the default they compare with."""
    return *_SIZE_RULES, *_period_rules(max_age_s), *_TLS_RULES, *_SCHEDULE_RULES


def _period_rules(max_age_s: float) -> tuple[Rule, ...]:
    return tuple(
        Rule(
            at=(),
            cel=_below_age(section, period, max_age_s),
            message=f"{section}.{period} must be below targets.maxAgeSeconds",
            field=f"spec.{section}.{period}",
            check=_slower_than_age(section, period),
        )
        for section, period in (
            ("metrics", "periodSeconds"),
            ("metrics", "idlePeriodSeconds"),
            ("upstream", "periodSeconds"),
        )
    )


_SIZE_RULES = (
    Rule(
        at=("replicas",),
        cel="!has(self.min) || !has(self.max) || self.min <= self.max",
        message="min must not exceed max",
        field="spec.replicas.min",
        check=_min_exceeds_max,
    ),
    Rule(
        at=(),
        cel="!has(self.zero) || !has(self.zero.enabled) || !self.zero.enabled"
        " || !has(self.replicas) || !has(self.replicas.min) || self.replicas.min == 0",
        message="zero.enabled needs replicas.min to be 0 or absent",
        field="spec.zero.enabled",
        check=_zero_against_min,
    ),
    Rule(
        at=(),
        cel="!has(self.zero) || !has(self.zero.enabled) || !self.zero.enabled || has(self.upstream)",
        message="zero.enabled needs upstream.query, a PromQL query for the requests that wait before the pods: "
        "nothing else would wake the service",
        field="spec.zero.enabled",
        check=_zero_without_upstream,
    ),
)
_HTTPS = "(has(self.scheme) && self.scheme == 'https')"
_TLS_RULES = (
    Rule(
        at=("metrics",),
        cel=f"!has(self.caFile) || {_HTTPS}",
        message="caFile has a meaning only with scheme https",
        field="spec.metrics.caFile",
        check=_tls_only("caFile"),
    ),
    Rule(
        at=("metrics",),
        cel=f"!has(self.insecureSkipVerify) || !self.insecureSkipVerify || {_HTTPS}",
        message="insecureSkipVerify has a meaning only with scheme https",
        field="spec.metrics.insecureSkipVerify",
        check=_tls_only("insecureSkipVerify"),
    ),
    Rule(
        at=("metrics",),
        cel="!has(self.caFile) || !has(self.insecureSkipVerify) || !self.insecureSkipVerify",
        message="caFile contradicts insecureSkipVerify",
        field="spec.metrics.caFile",
        check=_ca_and_no_verification,
    ),
)
_SCHEDULE_RULES = (
    Rule(
        at=("schedules", "[]"),
        cel="self.start != self.end",
        message="start and end must differ",
        field="spec.schedules",
        check=_same_times,
    ),
    # The API server's own words for this are those of x-kubernetes-list-type: map.
    Rule(at=(), cel="", message="", field="spec.schedules", check=_same_names),
)
SCALED_SERVICE_RULES = (
    Rule(
        at=("targetRef",),
        cel="(self.kind == 'Deployment') == (self.apiVersion == 'apps/v1')",
        message="kind and apiVersion must belong together",
        field="spec.targetRef.kind",
        check=_kind_against_version,
    ),
    Rule(
        at=("targetRef",),
        cel="self == oldSelf",
        message="targetRef cannot be changed: delete the ScaledService and write another",
        field="spec.targetRef",
    ),
)
