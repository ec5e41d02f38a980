"""`hpa.yaml` and `scaledobject.yaml`: the policy that such an object is.

An `autoscaling/v2` HorizontalPodAutoscaler with Pods, Object and External metrics, or a `keda.sh/v1alpha1`
ScaledObject with prometheus triggers, also under a formula. What is not simulated is refused; what changes nothing
here is said in `notes`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

import yaml

from autoscaler.policy.types import Observation
from simulations.policies.base import Bounds, Policy, Queries
from simulations.policies.hpa import ExternalMetric, Hpa, Metric, PodsMetric
from simulations.policies.series import sum_of, zero_if_lost

from .behavior import limits_of
from .errors import FormulaError, ImportedObjectError, QueryError
from .fields import Fields
from .formula import parse_formula
from .metrics import KNOWN, gauge_of
from .promql import Query, parse_query

TEXT_MAX_CHARACTERS = 1_000_000  # what etcd takes of one object
DOCUMENTS_MAX = 100
KEDA_MAX_DEFAULT = 100  # maxReplicaCount
KEDA_POLLING_DEFAULT_S = 30  # pollingInterval: between 1 and N it matters only to triggers with useCachedMetrics
KEDA_POLLING_MAX_S = 3600  # every page of that time is kept
HPA_API, KEDA_API = "autoscaling/v2", "keda.sh/v1alpha1"
AVERAGE, VALUE = "AverageValue", "Value"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """The policy, what the object is called, and what of it has no effect in the simulation."""

    name: str
    policy: Policy
    notes: tuple[str, ...] = ()


def import_policy(text: str, bounds: Bounds) -> Imported:
    """The one HPA or ScaledObject of a YAML file; its own minimum and maximum within `bounds`."""
    fields = _the_object(text)
    if fields.value["kind"] == "ScaledObject":
        return _scaled_object(fields, bounds)
    return _hpa(fields, bounds)


def _the_object(text: str) -> Fields:
    if len(text) > TEXT_MAX_CHARACTERS:
        raise ImportedObjectError(f"the file has {len(text):,} characters; no object has more than a million")
    try:
        documents = list(islice(yaml.safe_load_all(text), DOCUMENTS_MAX))
    except (yaml.YAMLError, RecursionError) as exc:
        raise ImportedObjectError(f"the file is no YAML: {' '.join(str(exc).split())}") from exc
    kinds = {"HorizontalPodAutoscaler": HPA_API, "ScaledObject": KEDA_API}
    found = [one for one in documents if isinstance(one, Mapping) and one.get("kind") in kinds]
    if len(found) != 1:
        raise ImportedObjectError(
            f"{len(found)} objects that scale in the file; one HorizontalPodAutoscaler or ScaledObject is expected"
        )
    (one,) = found
    fields = Fields(one, str(one["kind"]))
    name = fields.inside("metadata").text("name", "without a name")
    fields = Fields(one, f"{one['kind']} {name}")
    api = fields.text("apiVersion")
    if api != kinds[one["kind"]]:
        raise fields.refuse("apiVersion", api, f"{kinds[one['kind']]} is supported")
    return fields


def _bounds(low: int, high: int, fields: Fields, within: Bounds) -> tuple[Bounds, tuple[str, ...]]:
    if high < max(low, 1):
        raise ImportedObjectError(f"{fields.of}: at least {low} and at most {high} replicas cannot be")
    notes = []
    if low == 0:
        notes.append("scaling to zero is not simulated: one replica stays")
    if high > within.high:
        notes.append(f"at most {within.high} replicas are simulated, not {high}")
    low = min(max(low, 1), within.high)
    return Bounds(low=low, high=max(low, min(high, within.high))), tuple(notes)


# --- HorizontalPodAutoscaler -----------------------------------------------------------------------------------------


def _hpa(fields: Fields, within: Bounds) -> Imported:
    spec = fields.inside("spec")
    bounds, notes = _bounds(spec.count("minReplicas", 1), spec.count("maxReplicas"), fields, within)
    metrics = tuple(_metric(metric) for metric in spec.each("metrics"))
    if not metrics:
        raise spec.refuse("metrics", None, "without metrics an HPA scales on CPU, which is not simulated")
    return Imported(name=fields.of, policy=Hpa(metrics=metrics, limits=limits_of(spec, bounds)), notes=notes)


def _metric(fields: Fields) -> Metric:
    kind = fields.text("type")
    if kind not in ("Pods", "Object", "External"):
        expected = "Pods, Object and External are supported: CPU and memory of a server do not tell its load"
        raise fields.refuse("type", kind, expected)
    source = fields.inside(kind.lower())
    name = source.inside("metric").text("name")
    target = source.inside("target")
    style = target.text("type")
    if style not in (AVERAGE, VALUE) or (kind == "Pods" and style != AVERAGE):
        raise target.refuse("type", style, f"{AVERAGE} is supported, for Object and External also {VALUE}")
    goal = _goal(target, "averageValue" if style == AVERAGE else "value")
    read = gauge_of(name)
    if kind == "Pods" and read is not None:
        return PodsMetric(name=name, read=read, target=goal)
    total = KNOWN.totals.get(name) if read is None else sum_of(read)
    if total is None or kind == "Pods":
        raise source.inside("metric").refuse("name", name, f"these are simulated: {KNOWN.names()}")
    return ExternalMetric(name=name, total=total, target=goal, is_average=style == AVERAGE)


def _goal(fields: Fields, name: str) -> float:
    goal = fields.quantity(name)
    if goal < 0.001:
        raise fields.refuse(name, fields.value.get(name), "it must be at least 0.001: targets are whole thousandths")
    return goal


# --- ScaledObject ----------------------------------------------------------------------------------------------------


def _scaled_object(fields: Fields, within: Bounds) -> Imported:
    spec = fields.inside("spec")
    advanced = spec.inside("advanced")
    low, high = spec.count("minReplicaCount", 0), spec.count("maxReplicaCount", KEDA_MAX_DEFAULT)
    bounds, notes = _bounds(low, high, fields, within)
    triggers = [_trigger(trigger) for trigger in spec.each("triggers")]
    if not triggers:
        raise spec.refuse("triggers", None, "at least one trigger is expected")
    metrics: tuple[Metric, ...] = tuple(metric for metric, _ in triggers)
    if advanced.has("scalingModifiers"):
        metrics = (_composite(advanced.inside("scalingModifiers"), {metric.name: metric for metric, _ in triggers}),)
    if spec.has("fallback"):
        notes = (*notes, "fallback has no effect: no query fails here")
    ranges_s = sorted({range_s for _, query in triggers for range_s in query.ranges_s})
    if len(ranges_s) > 1:
        notes = (*notes, f"all rates are taken over {ranges_s[-1]:g} s, the longest of their ranges")
    policy = Hpa(
        metrics=metrics,
        limits=limits_of(advanced.inside("horizontalPodAutoscalerConfig"), bounds),
        reads_rates=bool(ranges_s),
        reads_gaps=any(query.reads_buckets for _, query in triggers),
        queries=Queries(window_s=max(ranges_s, default=Queries().window_s), polling_s=_polling_s(spec)),
    )
    return Imported(name=fields.of, policy=policy, notes=notes)


def _polling_s(spec: Fields) -> float | None:
    """How long answers are kept, where a trigger has them kept; each HPA sync asks anew without that."""
    polling_s = spec.count("pollingInterval", KEDA_POLLING_DEFAULT_S)
    if not 1 <= polling_s <= KEDA_POLLING_MAX_S:
        raise spec.refuse("pollingInterval", polling_s, f"1 to {KEDA_POLLING_MAX_S} are simulated")
    is_kept = any(trigger.value.get("useCachedMetrics") is True for trigger in spec.each("triggers"))
    return float(polling_s) if is_kept else None


def _composite(fields: Fields, triggers: Mapping[str, ExternalMetric]) -> Metric:
    """One number from all triggers; their own thresholds have no effect then."""
    text = fields.text("formula")
    try:
        formula = parse_formula(text, tuple(triggers))
    except FormulaError as exc:
        raise fields.refuse("formula", " ".join(text.split()), str(exc)) from exc

    def total(seen: Observation, now_s: float) -> float | None:
        value = formula({name: trigger.total(seen, now_s) for name, trigger in triggers.items()})
        return None if value is None else max(0.0, float(value))  # KEDA takes a negative one for zero

    style = fields.text("metricType", AVERAGE)
    if style not in (AVERAGE, VALUE):
        raise fields.refuse("metricType", style, f"{AVERAGE} and {VALUE} are supported")
    return ExternalMetric(name="composite", total=total, target=_goal(fields, "target"), is_average=style == AVERAGE)


def _trigger(fields: Fields) -> tuple[ExternalMetric, Query]:
    kind = fields.text("type")
    if kind != "prometheus":
        raise fields.refuse("type", kind, "prometheus is supported")
    style = fields.text("metricType", AVERAGE)
    if style not in (AVERAGE, VALUE):
        raise fields.refuse("metricType", style, f"{AVERAGE} and {VALUE} are supported")
    metadata = fields.inside("metadata")
    text = metadata.text("query")
    try:
        query = parse_query(text)
    except QueryError as exc:
        raise metadata.refuse("query", " ".join(text.split()), str(exc)) from exc
    is_zero_when_lost = metadata.text("ignoreNullValues", "true").lower() != "false"
    metric = ExternalMetric(
        name=fields.text("name", "prometheus"),
        total=zero_if_lost(query.total) if is_zero_when_lost else query.total,
        target=_goal(metadata, "threshold"),
        is_average=style == AVERAGE,
    )
    return metric, query
