"""Whether a server that is told to go may finish what it has: by its flags, and by the time its pod is given. Pure."""

import re
from typing import Any

from autoscaler.findings import Finding, ok, warn

Object = dict[str, Any]

# vLLM 0.32 may need its whole timeout even where nothing is left to do, and then some seconds to take itself down.
EXIT_S = 10.0
# Kubernetes' own default.
GRACE_DEFAULT_S = 30.0
_MAIN_CONTAINER = "kserve-container"
_TIMEOUT = re.compile(r"--shutdown[-_]timeout(?:=|\s+)(\S+)")
_SLEEP = re.compile(r"\bsleep (\d+)")
_HOW = "see manifests/samples, or spec.predictor.terminationGracePeriodSeconds of an InferenceService"


def examine_drain(key: str, deployment: Object) -> Finding:
    """One enrolled Deployment, as the API has it."""
    subject = f"{key} drain"
    pod = ((deployment.get("spec") or {}).get("template") or {}).get("spec") or {}
    container = _served_by(pod)
    found = _TIMEOUT.search(" ".join([*(container.get("command") or ()), *(container.get("args") or ())]))
    if found is None:
        said = "vLLM is started without --shutdown-timeout: requests under way are cut when a pod goes"
        return warn(subject, said, f"add --shutdown-timeout=N, and {EXIT_S:g} s more of grace; {_HOW}")
    try:
        timeout_s = float(found[1])
    except ValueError:
        return ok(subject, f"--shutdown-timeout is {found[1]}, which cannot be judged from here")
    grace_s = float(pod.get("terminationGracePeriodSeconds", GRACE_DEFAULT_S))
    wanted_s = timeout_s + _before_it_is_told_s(container) + EXIT_S
    if timeout_s <= 0:
        said = "--shutdown-timeout=0: requests under way are cut when a pod goes"
        return warn(subject, said, f"give them the time that an answer takes; {_HOW}")
    if grace_s < wanted_s:
        said = f"terminationGracePeriodSeconds is {grace_s:g}, vLLM may need {wanted_s:g} s to finish and exit"
        return warn(subject, said, f"set it to {wanted_s:g} or more, or a shorter --shutdown-timeout; {_HOW}")
    return ok(subject, f"{timeout_s:g} s to finish what is under way, {grace_s:g} s until the pod is killed")


def _served_by(pod: Object) -> Object:
    containers: list[Object] = pod.get("containers") or [{}]
    return next((one for one in containers if one.get("name") == _MAIN_CONTAINER), containers[0])


def _before_it_is_told_s(container: Object) -> float:
    """What a preStop hook takes of the grace before vLLM gets its SIGTERM."""
    hook = (container.get("lifecycle") or {}).get("preStop") or {}
    slept = _SLEEP.search(" ".join((hook.get("exec") or {}).get("command") or ()))
    return float((hook.get("sleep") or {}).get("seconds") or (slept[1] if slept else 0.0))
