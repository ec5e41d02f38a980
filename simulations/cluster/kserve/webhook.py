"""What KServe's validating webhook refuses of an InferenceService: pure."""

from simulations.cluster.api import ApiError, Object
from simulations.cluster.kserve import names
from simulations.cluster.kserve.rules import AutoscalerClass, Rules

_DENIED = 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '


def check(isvc: Object, rules: Rules) -> None:
    """Raise what the API server would answer to a create or an update."""
    problem = _bad_class(isvc, rules) or _bad_bounds(isvc) or _bad_triggers(isvc)
    if problem:
        raise ApiError(403, "Forbidden", _DENIED + problem)


def _bad_class(isvc: Object, rules: Rules) -> str:
    value = names.annotation(isvc, names.CLASS)
    if not value or value in rules.classes:
        return ""
    return f"[{value}] is not a supported autoscaler class type."


def _bad_bounds(isvc: Object) -> str:
    predictor = isvc["spec"].get("predictor") or {}
    low, high = predictor.get("minReplicas") or 0, predictor.get("maxReplicas") or 0
    if low < 0:
        return "MinReplicas cannot be less than 0."
    if high < 0:
        return "MaxReplicas cannot be less than 0."
    if high and low > high:
        return "MinReplicas cannot be greater than MaxReplicas."
    return ""


def _bad_triggers(isvc: Object) -> str:
    """Class keda: every metric must be whole; no other class looks at them."""
    if names.annotation(isvc, names.CLASS) != AutoscalerClass.KEDA:
        return ""
    metrics = (isvc["spec"]["predictor"].get("autoScaling") or {}).get("metrics") or ()
    return next((problem for metric in metrics if (problem := _bad_trigger(metric))), "")


def _bad_trigger(metric: Object) -> str:
    match metric:
        case {"type": "External", "external": {"metric": {"backend": _, "query": str(query)}, "target": {"value": _}}}:
            return "" if query else "the query of an External metric must not be empty"
        case {"type": "Resource", "resource": {"name": _, "target": {}}}:
            return ""
        case {"type": "External" | "Resource" as kind}:
            return f"{kind} metric needs its name or query and its target"
    return f"metric type {metric.get('type')!r} is not supported here: External or Resource"
