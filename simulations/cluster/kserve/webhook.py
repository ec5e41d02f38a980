"""What KServe's validating webhook refuses of an InferenceService: pure."""

from simulations.cluster.api import ApiError, Object
from simulations.cluster.kserve import names
from simulations.cluster.kserve.rules import Rules

_DENIED = 'admission webhook "inferenceservice.kserve-webhook-server.validator" denied the request: '


def check(isvc: Object, rules: Rules) -> None:
    """Raise what the API server would answer to a create or an update."""
    problem = _bad_class(isvc, rules) or _bad_bounds(isvc)
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
