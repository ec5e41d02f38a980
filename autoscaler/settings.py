"""What ScalingPolicies and ScaledServices say beyond the decision: where metrics are, windows, what is enrolled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autoscaler.policy.spec import PolicySpec
from autoscaler.schedule import Schedule

# The one stable annotation that enrols an object: KServe copies annotations to the pods, so a change restarts them.
ANNOTATION = "warmtide.dev/policy"


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsEndpoint:
    """How the pods' metrics pages are read. `None` for port or path: found by discovery."""

    port: int | None = None
    path: str | None = None
    scheme: Literal["http", "https"] = "http"
    period_s: float = 2.0  # under load, of five pods
    is_period_fixed: bool = False  # the policy names it; else it follows the number of pods
    idle_period_s: float = 15.0
    bearer_token_file: Path | None = None
    ca_file: Path | None = None
    insecure_skip_verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamQuery:
    """How the requests held before the pods are counted."""

    promql: str
    period_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePolicy:
    """A whole ScalingPolicy: what `decide` needs, and what the controller around it needs."""

    name: str  # namespace/name of the object; empty: the built-in defaults
    spec: PolicySpec
    endpoint: MetricsEndpoint = MetricsEndpoint()
    schedules: tuple[Schedule, ...] = ()
    upstream: UpstreamQuery | None = None
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    """What a ScaledService that a user wrote asks for."""

    api_version: str
    kind: str
    name: str
    policy: str
