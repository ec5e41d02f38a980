"""Status of an InferenceService in Standard mode: pure.

`observedGeneration` is the Deployment's, as in the real one: it grows with every scale.
"""

from collections.abc import Mapping
from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.kserve import names
from simulations.cluster.kserve.pod_template import RUNTIME
from simulations.cluster.kserve.rules import Rules
from simulations.cluster.workloads import conditions
from simulations.cluster.workloads.conditions import Verdict

_DOMAIN = "example.com"  # KServe's default ingress domain


def status_for(isvc: Object, deployment: Object | None, rules: Rules, now: str) -> Mapping[str, Any]:
    """What KServe writes while the service runs."""
    before = isvc.get("status", {})
    predictor = _predictor(deployment)
    if predictor.status == "True":
        ingress = Verdict(type="IngressReady", status="True")
    else:  # the real controller returns before it comes to the ingress, so the old word stands
        ingress = _kept(before, "IngressReady")
    ready = _ready(predictor, ingress)
    verdicts = [ingress, predictor, ready, *_stopped(isvc, rules)]
    status: dict[str, Any] = {
        "conditions": conditions.rewritten(before.get("conditions", []), verdicts, now),
        "deploymentMode": rules.mode,
        "components": {"predictor": {"url": _url(isvc, names.predictor_name(isvc))}},
        "modelStatus": _model_status(deployment),
    }
    if deployment is not None:
        status["observedGeneration"] = deployment["metadata"]["generation"]
    if isvc["spec"]["predictor"].get("model"):
        status["clusterServingRuntimeName"] = RUNTIME
    if ingress.status == "True":
        address = f"http://{names.predictor_name(isvc)}.{isvc['metadata']['namespace']}.svc.cluster.local"
        status |= {"url": _url(isvc, isvc["metadata"]["name"]), "address": {"url": address}}
    return status


def stopped_status(isvc: Object, rules: Rules, now: str) -> Mapping[str, Any]:
    """What KServe writes of a service that serving.kserve.io/stop has taken away."""
    before = isvc.get("status", {})
    gone = [
        Verdict(type=name, status="False", reason="Stopped") for name in ("IngressReady", "PredictorReady", "Ready")
    ]
    stopped = Verdict(type="Stopped", status="True")
    return {
        "conditions": conditions.rewritten(before.get("conditions", []), [*gone, stopped], now),
        "deploymentMode": rules.mode,
        "modelStatus": _model_status(None),
        "url": None,
        "address": None,
    }


def refused_status(isvc: Object, mode: str, now: str) -> Mapping[str, Any]:
    """A service in a mode that this stand-in does not run: said, not passed over."""
    message = f"deployment mode {mode} is not available in this cluster"
    verdict = Verdict(type="Ready", status="False", reason="ServerlessModeRejected", message=message)
    before = isvc.get("status", {})
    return {"conditions": conditions.rewritten(before.get("conditions", []), [verdict], now)}


def _predictor(deployment: Object | None) -> Verdict:
    available = conditions.of(deployment, "Available") if deployment else None
    if available is None:
        return Verdict(type="PredictorReady", status="Unknown")
    progressing = conditions.of(deployment, "Progressing") if deployment else None
    if progressing is not None and progressing.get("reason") == "ProgressDeadlineExceeded":
        available = progressing
    if available["status"] == "True":
        return Verdict(type="PredictorReady", status="True")
    reason, message = available.get("reason", ""), available.get("message", "")
    return Verdict(type="PredictorReady", status="False", reason=reason, message=message)


def _ready(predictor: Verdict, ingress: Verdict) -> Verdict:
    """Ready when all of it is; else the first that is not says why."""
    for part in (predictor, ingress):
        if part.status != "True":
            reason = part.reason if part.status == "False" else ""
            return Verdict(type="Ready", status=part.status, reason=reason, message=part.message)
    return Verdict(type="Ready", status="True")


def _stopped(isvc: Object, rules: Rules) -> list[Verdict]:
    if not rules.stop_deletes:
        return []
    return [Verdict(type="Stopped", status="False")]


def _kept(before: Mapping[str, Any], name: str) -> Verdict:
    old = conditions.find(before.get("conditions", []), name)
    if old is None or old.get("reason") == "Stopped":
        return Verdict(type=name, status="Unknown")
    return Verdict(type=name, status=old["status"], reason=old.get("reason", ""), message=old.get("message", ""))


def _model_status(deployment: Object | None) -> dict[str, Any]:
    """Copies are ready pods. With none, the model is on its way, also when nobody asked for a pod."""
    ready = deployment.get("status", {}).get("readyReplicas", 0) if deployment else 0
    loaded = "Loaded" if ready else "Pending"
    return {
        "copies": {"totalCopies": ready, "failedCopies": 0},
        "states": {"activeModelState": loaded if ready else "", "targetModelState": loaded},
        "transitionStatus": "UpToDate" if ready else "InProgress",
    }


def _url(isvc: Object, name: str) -> str:
    return f"http://{name}-{isvc['metadata']['namespace']}.{_DOMAIN}"
