"""Policies by name, with the parameters that their makers publish."""

from autoscaler.policy.spec import Mode, Objectives, PolicySpec, ScalingRules, default_scale_down, default_scale_up

from .base import Bounds, Policy
from .hpa import Behavior, Hpa, Keda, Trigger, default_behavior, running_requests, waiting_requests
from .kpa import Kpa
from .warmtide import Warmtide

NAMES = ("warmtide", "hpa-queue", "keda-prodstack", "keda-epp-queue", "kpa")


def build(name: str, bounds: Bounds, *, ttft_s: float, lead_time_s: float) -> Policy:
    """A policy with a fresh memory; ValueError names those there are."""
    if name == "warmtide":
        return Warmtide(spec=warmtide_spec(bounds, ttft_s=ttft_s, lead_time_s=lead_time_s))
    if name == "hpa-queue":
        return Hpa(read=waiting_requests, target=5.0, behavior=default_behavior(bounds))
    if name == "keda-prodstack":  # vLLM production-stack's ScaledObject: threshold 5 of waiting requests
        return Keda(triggers=(Trigger(read=waiting_requests, target=5.0),), behavior=default_behavior(bounds))
    if name == "keda-epp-queue":  # llm-d's workload-autoscaling guide: queue 1, running 16, both windows 300 s
        triggers = (Trigger(read=waiting_requests, target=1.0), Trigger(read=running_requests, target=16.0))
        return Keda(triggers=triggers, behavior=_slow_behavior(bounds))
    if name == "kpa":
        return Kpa(bounds=bounds)
    raise ValueError(f"no policy named {name!r}; there are: static, {', '.join(NAMES)}")


def warmtide_spec(bounds: Bounds, *, ttft_s: float, lead_time_s: float) -> PolicySpec:
    """Defaults, but for what a user has to say: bounds and the objective."""
    return PolicySpec(
        mode=Mode.DIRECT,
        replicas_min=bounds.low,
        replicas_max=bounds.high,
        objectives=Objectives(ttft_s=ttft_s),
        lead_time_prior_s=lead_time_s,
    )


def _slow_behavior(bounds: Bounds) -> Behavior:
    up = default_scale_up()
    slow_up = ScalingRules(tolerance_ratio=up.tolerance_ratio, stabilization_window_s=300.0, rate_limits=up.rate_limits)
    return Behavior(bounds=bounds, up=slow_up, down=default_scale_down())
