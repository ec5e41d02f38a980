"""Reading pods: pure questions that several controllers ask."""

from simulations.cluster.api import Object
from simulations.cluster.apiserver.metadata import unix_s
from simulations.cluster.workloads import conditions
from simulations.cluster.workloads.mirror import is_going

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


def is_over(pod: Object) -> bool:
    """Ended for good: no container will run again."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_active(pod: Object) -> bool:
    """Counts as a replica: neither ended nor going."""
    return not is_over(pod) and not is_going(pod)


def is_ready(pod: Object) -> bool:
    """Its Ready condition holds."""
    return conditions.holds(pod, "Ready")


def ready_since_s(pod: Object) -> float | None:
    """When it became ready; None when it is not."""
    condition = conditions.of(pod, "Ready")
    if condition is None or condition["status"] != "True":
        return None
    return unix_s(condition["lastTransitionTime"])


def node_of(pod: Object) -> str:
    """The node it is bound to, or an empty name."""
    return str(pod["spec"].get("nodeName") or "")


def restarts_of(pod: Object) -> int:
    """The most restarts of any of its containers."""
    return max(
        (status.get("restartCount", 0) for status in pod.get("status", {}).get("containerStatuses") or ()), default=0
    )


def deletion_cost(pod: Object) -> int:
    """The pod-deletion-cost annotation; what is not a number counts as 0, as in the real controller."""
    text = pod["metadata"].get("annotations", {}).get(DELETION_COST, "0")
    try:
        return int(text)
    except ValueError:
        return 0
