"""Checked models → the plain values that the rest of the controller works with."""

from pathlib import Path

from autoscaler.config import ScalingPolicyModel, ScalingRulesModel
from autoscaler.policy.spec import (
    ForecastSpec,
    LensTargets,
    Objectives,
    PolicySpec,
    RateLimit,
    ScalingRules,
    ZeroSpec,
    default_scale_down,
    default_scale_up,
)
from autoscaler.schedule import Schedule
from autoscaler.settings import MetricsEndpoint, UpstreamQuery

_UPSTREAM_PERIOD_S = UpstreamQuery(promql="").period_s


def to_spec(policy: ScalingPolicyModel) -> PolicySpec:
    """What `decide` needs of a policy."""
    return PolicySpec(
        mode=policy.mode,
        replicas_min=policy.replicas.min,
        replicas_max=policy.replicas.max,
        objectives=_objectives(policy),
        targets=_targets(policy),
        forecast=ForecastSpec(
            enabled=policy.forecast.enabled,
            horizon_s=policy.forecast.horizon_seconds,
            max_raise_ratio=policy.forecast.max_raise,
        ),
        scale_up=_rules(policy.behavior.scale_up, default_scale_up()),
        scale_down=_rules(policy.behavior.scale_down, default_scale_down()),
        zero=ZeroSpec(enabled=policy.zero.enabled, idle_s=policy.zero.idle_seconds),
        lead_time_prior_s=policy.lead_time_prior_seconds,
        paused=policy.pause.paused,
        pinned_replicas=policy.pause.replicas,
    )


def to_endpoint(policy: ScalingPolicyModel, credentials: Path) -> MetricsEndpoint:
    """Where metrics are; named files lie in the directory of the policy's namespace."""
    default = MetricsEndpoint()
    metrics, slowest_s = policy.metrics, policy.targets.max_age_seconds / 2
    period_s = metrics.period_seconds or min(default.period_s, slowest_s)
    idle_period_s = metrics.idle_period_seconds or min(default.idle_period_s, slowest_s)
    return MetricsEndpoint(
        port=metrics.port,
        path=metrics.path,
        scheme=metrics.scheme,
        period_s=period_s,
        is_period_fixed=metrics.period_seconds is not None,
        idle_period_s=max(period_s, idle_period_s),
        bearer_token_file=credentials / metrics.bearer_token_file if metrics.bearer_token_file else None,
        ca_file=credentials / metrics.ca_file if metrics.ca_file else None,
        insecure_skip_verify=metrics.insecure_skip_verify,
    )


def to_upstream(policy: ScalingPolicyModel) -> UpstreamQuery | None:
    """What to ask Prometheus for."""
    upstream = policy.upstream
    if upstream is None:
        return None
    period_s = upstream.period_seconds or min(_UPSTREAM_PERIOD_S, policy.targets.max_age_seconds / 2)
    return UpstreamQuery(promql=upstream.query, period_s=period_s)


def to_schedules(policy: ScalingPolicyModel) -> tuple[Schedule, ...]:
    """The windows of a policy."""
    return tuple(
        Schedule(
            name=window.name,
            start=window.start,
            end=window.end,
            time_zone=window.time_zone,
            replicas_min=window.min_replicas,
        )
        for window in policy.schedules
    )


def _objectives(policy: ScalingPolicyModel) -> Objectives:
    return Objectives(
        ttft_s=policy.objectives.ttft_seconds or None,
        itl_s=policy.objectives.itl_seconds or None,
        quantile=policy.objectives.quantile,
        attainment_ratio=policy.objectives.attainment,
    )


def _targets(policy: ScalingPolicyModel) -> LensTargets:
    targets = policy.targets
    return LensTargets(
        queue_requests=targets.queue_requests or None,
        kv_cache_usage_ratio=targets.kv_cache_utilization or None,
        running_requests=targets.running_requests or None,
        tokens_per_s=targets.tokens_per_second,
        use_learned_capacity=targets.use_learned_capacity,
        max_age_s=targets.max_age_seconds,
        headroom_ratio=targets.headroom,
    )


def _rules(given: ScalingRulesModel, default: ScalingRules) -> ScalingRules:
    """As the HPA does: each absent field takes its default, a list of rate limits replaces the default list whole."""
    window_s = given.stabilization_window_seconds
    return ScalingRules(
        tolerance_ratio=default.tolerance_ratio if given.tolerance is None else given.tolerance,
        stabilization_window_s=default.stabilization_window_s if window_s is None else float(window_s),
        select_policy=given.select_policy,
        rate_limits=default.rate_limits
        if given.policies is None
        else tuple(
            RateLimit(type=limit.type, value=limit.value, period_s=float(limit.period_seconds))
            for limit in given.policies
        ),
    )
