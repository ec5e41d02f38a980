"""An HPA's `behavior` as the limits of a policy, defaults filled in as the API server does."""

from autoscaler.policy.spec import (
    PolicyType,
    RateLimit,
    ScalingRules,
    SelectPolicy,
    default_scale_down,
    default_scale_up,
)
from simulations.policies.base import Bounds
from simulations.policies.hpa_limits import Behavior, Limits, Unruled

from .fields import Fields


def limits_of(spec: Fields, bounds: Bounds) -> Limits:
    """`spec` holds `behavior`; without one the HPA takes its older path."""
    if not spec.has("behavior"):
        return Unruled(bounds=bounds)
    behavior = spec.inside("behavior")
    return Behavior(
        bounds=bounds,
        up=_rules(behavior.inside("scaleUp"), default_scale_up()),
        down=_rules(behavior.inside("scaleDown"), default_scale_down()),
    )


def _rules(fields: Fields, default: ScalingRules) -> ScalingRules:
    rates = tuple(_rate(rate) for rate in fields.each("policies")) or default.rate_limits
    select = fields.text("selectPolicy", default.select_policy)
    if select not in tuple(SelectPolicy):
        raise fields.refuse("selectPolicy", select, f"one of {', '.join(SelectPolicy)} is expected")
    window_s = fields.count("stabilizationWindowSeconds", round(default.stabilization_window_s))
    tolerance = fields.quantity("tolerance", default.tolerance_ratio)
    try:
        return ScalingRules(
            tolerance_ratio=tolerance,
            stabilization_window_s=float(window_s),
            select_policy=SelectPolicy(select),
            rate_limits=rates,
        )
    except ValueError as exc:
        raise fields.refuse("stabilizationWindowSeconds", window_s, str(exc)) from exc


def _rate(fields: Fields) -> RateLimit:
    kind = fields.text("type")
    if kind not in tuple(PolicyType):
        raise fields.refuse("type", kind, f"one of {', '.join(PolicyType)} is expected")
    value, period_s = fields.count("value"), fields.count("periodSeconds")
    try:
        return RateLimit(type=PolicyType(kind), value=value, period_s=float(period_s))
    except ValueError as exc:
        raise fields.refuse("periodSeconds", period_s, str(exc)) from exc
