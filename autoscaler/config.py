"""ScalingPolicy and ScaledService as users write them, checked here; `autoscaler.parse` makes plain values of them.

The models are the one source of the CRDs (`autoscaler.crds`). Defaults come from `autoscaler.policy.spec` and
`autoscaler.settings`; a field that is absent or null takes its default.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_camel

from autoscaler.errors import BadSpecError
from autoscaler.policy.spec import LensTargets, Mode, Objectives, PolicySpec, PolicyType, SelectPolicy
from autoscaler.rules import Rule, broken_rule, policy_rules
from autoscaler.schedule import check_cron, zone
from autoscaler.settings import MetricsEndpoint
from autoscaler.spec_errors import explain_first, field_path, largest_field, shown, value_at, without_nulls
from autoscaler.status import ScaledServiceStatus

# A full policy with 32 schedules is about 8 kB; much more than that is a mistake or an attack.
SPEC_MAX_CHARS = 64 * 1024

DNS_NAME = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_FILE_NAME = r"^[A-Za-z0-9]([-._A-Za-z0-9]{0,62}[A-Za-z0-9])?$"
_URL_PATH = r"^/[-A-Za-z0-9._~/]{0,255}$"
_TOLERANCE = r"^(0(\.[0-9]{1,6})?|[0-9]{1,3}m)$"
_QUERY_MAX_CHARS = 2048  # it travels in a URL; a longer one belongs in a recording rule
_MAX_REPLICAS = 10_000  # far beyond any fleet; a typo with one digit too many must not order it
_DAY_S = 86_400
_WEEK_S = 7 * _DAY_S

_POLICY, _ENDPOINT = PolicySpec(), MetricsEndpoint()
_OBJECTIVES, _TARGETS = Objectives(), LensTargets()
POLICY_RULES = policy_rules(max_age_s=_TARGETS.max_age_s)


_Spec = TypeVar("_Spec", bound=BaseModel)


class _Model(BaseModel):
    """No unknown fields, no coercion, no NaN."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )


def _quantity(value: object) -> object:
    """A tolerance as the HPA takes it: 0.05, "0.05" or "50m"."""
    if not isinstance(value, str):
        return value
    if not re.match(_TOLERANCE, value):
        raise ValueError('must be a share of at least 0 and below 1, such as 0.05 or "50m"')
    return float(value[:-1]) / 1000 if value.endswith("m") else float(value)


def _cron(value: str) -> str:
    check_cron(value)
    return value


def _zone(value: str) -> str:
    zone(value)
    return value


# No `type`: an API server then takes the number as well as the text, as it does for the HPA's own quantity.
_TOLERANCE_SCHEMA = {
    "x-kubernetes-preserve-unknown-fields": True,
    "pattern": _TOLERANCE,
    "minimum": 0,
    "exclusiveMaximum": 1,
}
Tolerance = Annotated[float, BeforeValidator(_quantity), Field(ge=0, lt=1), WithJsonSchema(_TOLERANCE_SCHEMA)]
Cron = Annotated[str, Field(min_length=9, max_length=128), BeforeValidator(lambda v: _cron(v) if _short(v) else v)]
TimeZone = Annotated[str, Field(min_length=1, max_length=64), BeforeValidator(lambda v: _zone(v) if _short(v) else v)]


def _short(value: object) -> bool:
    """Text short enough to be worth parsing; the field's own bounds refuse the rest."""
    return isinstance(value, str) and 0 < len(value) <= 128


class ReplicasModel(_Model):
    """Bounds of the number of replicas."""

    min: int | None = Field(default=None, ge=0, le=_MAX_REPLICAS)
    """Never fewer. Absent: the service's own minReplicas, else 1, or 0 with zero.enabled. 0 needs zero.enabled."""
    max: int | None = Field(default=None, ge=1, le=_MAX_REPLICAS)
    """Never more. Absent: the service's own maxReplicas, else 10."""


class ObjectivesModel(_Model):
    """What a user of the service should experience."""

    ttft_seconds: float = Field(default=_OBJECTIVES.ttft_s or 0, ge=0, le=3600)
    """Time to first token at the quantile. 0: not an objective."""
    itl_seconds: float = Field(default=_OBJECTIVES.itl_s or 0, ge=0, le=3600)
    """Time between two tokens at the quantile. 0: not an objective."""
    quantile: float = Field(default=_OBJECTIVES.quantile, ge=0.5, le=0.999)
    """Quantile of TTFT and ITL that is held against the objective."""
    attainment: float = Field(default=_OBJECTIVES.attainment_ratio, ge=0.5, lt=1)
    """Share of requests that should meet them: the bar of reports and replays; no decision depends on it."""


class TargetsModel(_Model):
    """What one replica should carry. Each is a lens of its own; the one that asks for most replicas binds."""

    queue_requests: float = Field(default=_TARGETS.queue_requests or 0, ge=0, le=100_000)
    """Waiting requests a replica may hold. 0: lens off."""
    kv_cache_utilization: float = Field(default=_TARGETS.kv_cache_usage_ratio or 0, ge=0, le=1)
    """Share of the KV cache in use. 0: lens off."""
    running_requests: float = Field(default=_TARGETS.running_requests or 0, ge=0, le=100_000)
    """Requests in the engine, running and waiting. 0: lens off."""
    tokens_per_second: float | None = Field(default=_TARGETS.tokens_per_s, gt=0, le=1e9)
    """Prompt and generated tokens per second. Absent: the capacity learned from this service, once it is known."""
    use_learned_capacity: bool = _TARGETS.use_learned_capacity
    """Whether the learned capacity may stand in for tokensPerSecond."""
    max_age_seconds: float = Field(default=_TARGETS.max_age_s, ge=2, le=600)
    """Samples older than this are no samples: blind is not idle."""
    headroom: float = Field(default=_TARGETS.headroom_ratio, ge=0.1, le=1)
    """Share of a learned capacity to plan with."""


class MetricsModel(_Model):
    """Where the pods' metrics are. Absent fields are found from the pods themselves."""

    port: int | None = Field(default=None, ge=1, le=65535)
    """Port of the metrics page. Absent: annotation prometheus.kserve.io/port, then the container's ports, then 8080."""
    path: str | None = Field(default=None, pattern=_URL_PATH)
    """Path of the metrics page. Absent: pod annotation prometheus.kserve.io/path, else /metrics."""
    scheme: Literal["http", "https"] = _ENDPOINT.scheme
    """Whether pods serve plain HTTP or TLS."""
    period_seconds: float | None = Field(default=None, ge=0.2, le=60)
    """Time between scrapes of a pod under load. Absent: 0.4 for each pod of the service, 0.5 to 10."""
    idle_period_seconds: float | None = Field(default=None, ge=0.2, le=300)
    """Time between scrapes of a pod without requests. Absent: 15, but at most half of targets.maxAgeSeconds."""
    bearer_token_file: str | None = Field(default=None, pattern=_FILE_NAME)
    """Name of a file below /etc/warmtide/credentials/NAMESPACE in the controller, sent as bearer token."""
    ca_file: str | None = Field(default=None, pattern=_FILE_NAME)
    """Name of a file below /etc/warmtide/credentials/NAMESPACE in the controller: the CA of the pods' certificates."""
    insecure_skip_verify: bool = _ENDPOINT.insecure_skip_verify
    """Accept any certificate of the pods."""


class ForecastModel(_Model):
    """Whether a forecast may raise the number. It never lowers it."""

    enabled: bool = _POLICY.forecast.enabled
    """Use the forecast where it beats the naive one on this service's own history."""
    horizon_seconds: float | None = Field(default=_POLICY.forecast.horizon_s, ge=1, le=4 * 3600)
    """How far to look ahead. Absent: the measured lead time of the next replica."""
    max_raise: float = Field(default=_POLICY.forecast.max_raise_ratio, ge=0, le=10)
    """At most this share above the number that the load of now asks for."""


class RateLimitModel(_Model):
    """At most so much change within a period."""

    type: PolicyType
    """Unit of value."""
    value: int = Field(ge=1, le=1_000_000)
    """Pods or percent."""
    period_seconds: int = Field(ge=1, le=1800)
    """Length of the period."""


class ScalingRulesModel(_Model):
    """One direction, as in the HPA's behavior."""

    tolerance: Tolerance | None = None
    """Share of change that is ignored, such as 0.05 or "50m". Default: 0.1."""
    stabilization_window_seconds: int | None = Field(default=None, ge=0, le=3600)
    """The most cautious wish of this time counts. Default: 0 up, 300 down."""
    select_policy: SelectPolicy = SelectPolicy.MAX
    """Which of the policies counts; Disabled switches the direction off."""
    policies: list[RateLimitModel] | None = Field(default=None, min_length=1, max_length=20)
    """Rate limits. Default: 100 % per 15 s, when growing also 4 pods per 15 s."""


class BehaviorModel(_Model):
    """Exactly the shape and meaning of `behavior` in a HorizontalPodAutoscaler v2."""

    scale_up: ScalingRulesModel = ScalingRulesModel()
    """Growing."""
    scale_down: ScalingRulesModel = ScalingRulesModel()
    """Shrinking."""


class ScheduleModel(_Model):
    """A floor that holds from each start to the next end."""

    name: str = Field(pattern=DNS_NAME)
    """Name of the window, unique within the policy."""
    start: Cron
    """Cron expression (minute hour day-of-month month day-of-week)."""
    end: Cron
    """Cron expression (minute hour day-of-month month day-of-week)."""
    time_zone: TimeZone = "UTC"
    """IANA name of the time zone of both expressions."""
    min_replicas: int = Field(ge=0, le=_MAX_REPLICAS)
    """At least so many replicas within the window; replicas.max still holds."""


class UpstreamModel(_Model):
    """Requests that wait before the pods: held by a gateway, an activator or an endpoint picker."""

    query: str = Field(min_length=1, max_length=_QUERY_MAX_CHARS, pattern=r"\S")
    """PromQL for their number, as one value: sum(llm_d_epp_flow_control_queue_size{namespace="team-a"}), say. Asked of
    the controller's --prometheus-url. No answer is not zero."""
    period_seconds: float | None = Field(default=None, ge=0.5, le=60)
    """Time between two queries. Absent: 2, but at most half of targets.maxAgeSeconds."""


class ZeroModel(_Model):
    """Scale to zero."""

    enabled: bool = _POLICY.zero.enabled
    """Allow 0 replicas. Needs upstream.query: something upstream must hold requests meanwhile, and say how many."""
    idle_seconds: float = Field(default=_POLICY.zero.idle_s, ge=10, le=_WEEK_S)
    """How long the service must be without requests before."""


class PauseModel(_Model):
    """An operator's hand on the brake."""

    paused: bool = _POLICY.paused
    """Keep the replicas as they are; decisions are still shown."""
    replicas: int | None = Field(default=None, ge=0, le=_MAX_REPLICAS)
    """Hold exactly this many replicas."""


class ScalingPolicyModel(_Model):
    """How services that name this policy are scaled."""

    mode: Mode = _POLICY.mode
    """observe: metrics only. advise: decides and says so, touches nothing. direct: scales."""
    replicas: ReplicasModel = ReplicasModel()
    """Bounds of the number of replicas."""
    objectives: ObjectivesModel = ObjectivesModel()
    """What a user of the service should experience."""
    targets: TargetsModel = TargetsModel()
    """What one replica should carry."""
    metrics: MetricsModel = MetricsModel()
    """Where the pods' metrics are."""
    forecast: ForecastModel = ForecastModel()
    """Whether and how far a forecast may raise the number."""
    behavior: BehaviorModel = BehaviorModel()
    """How fast the number may change, as in a HorizontalPodAutoscaler."""
    schedules: list[ScheduleModel] = Field(
        default=[], max_length=32, json_schema_extra={"x-kubernetes-list-key": "name"}
    )
    """Floors at certain times."""
    upstream: UpstreamModel | None = None
    """Requests that wait before the pods: held by a gateway, an activator or an endpoint picker."""
    zero: ZeroModel = ZeroModel()
    """Scale to zero."""
    pause: PauseModel = PauseModel()
    """An operator's hand on the brake."""
    lead_time_prior_seconds: float = Field(default=_POLICY.lead_time_prior_s, ge=1, le=_DAY_S)
    """Start-up time of a replica until the first was measured."""


class TargetRefModel(_Model):
    """The object to scale, in the namespace of the ScaledService."""

    api_version: Literal["serving.kserve.io/v1beta1", "apps/v1"]
    """API group and version of the object."""
    kind: Literal["InferenceService", "Deployment"]
    """Kind of the object."""
    name: str = Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$")
    """Name of the object."""


class PolicyRefModel(_Model):
    """A ScalingPolicy, looked up in this namespace, then in the controller's."""

    name: str = Field(pattern=DNS_NAME)
    """Name of the ScalingPolicy."""


class ScaledServiceSpecModel(_Model):
    """Which object is scaled, and how."""

    target_ref: TargetRefModel
    """The object to scale."""
    policy_ref: PolicyRefModel
    """How it is scaled."""


class ScaledServiceModel(_Model):
    """Spec and status of a ScaledService, for its CRD."""

    spec: ScaledServiceSpecModel
    """Which object is scaled, and how."""
    status: ScaledServiceStatus
    """What Warmtide sees, decided and why."""


@functools.cache  # of a handful of models; pydantic works it out anew at every call
def json_schema(model: type[BaseModel]) -> Mapping[str, Any]:
    """Pydantic's JSON schema of a model, as users write it."""
    return model.model_json_schema(by_alias=True, mode="validation")


def checked(model: type[_Spec], owner: str, spec: object, rules: tuple[Rule, ...]) -> _Spec:
    """The spec as a model that keeps all rules."""
    try:
        text = json.dumps(without_nulls(spec), default=str)
    except RecursionError as exc:
        raise BadSpecError(owner, "spec", "", "is nested too deeply") from exc
    if len(text) > SPEC_MAX_CHARS:
        place, value = largest_field(spec)
        limit = f"is {len(shown(value))} characters long; a spec may have {SPEC_MAX_CHARS} in all"
        raise BadSpecError(owner, field_path(place), shown(value), limit)
    try:
        found = model.model_validate_json(text)
    except ValidationError as exc:
        raise explain_first(owner, exc.errors(include_url=False), known_fields(model)) from exc
    plain = found.model_dump(by_alias=True)
    if broken := broken_rule(rules, plain):
        field, message = broken
        raise BadSpecError(owner, field, shown(value_at(plain, field)), message)
    return found


def known_fields(model: type[BaseModel], place: tuple[str, ...] = ()) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The fields of each object of a model, by its place; list items stand as `[]`."""
    fields = {str(field.alias): field.annotation for field in model.model_fields.values()}
    found = {place: tuple(fields)}
    for name, annotation in fields.items():
        for part in (annotation,) if get_origin(annotation) is list else (annotation, *get_args(annotation)):
            is_list = get_origin(part) is list
            inner = get_args(part)[0] if is_list else part
            if isinstance(inner, type) and issubclass(inner, _Model):
                found |= known_fields(inner, (*place, name, *(("[]",) if is_list else ())))
    return found
