"""What a kubelet writes into a pod's status at each stage of its life; pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from simulations.cluster.api import Object
from simulations.cluster.workloads import conditions
from simulations.cluster.workloads.conditions import Verdict


class Stage(StrEnum):
    """Where a pod is between binding and serving."""

    CREATING = "ContainerCreating"  # the image comes
    INITIALIZING = "PodInitializing"  # the weights come
    RUNNING = "Running"  # the server starts
    READY = "Ready"
    BACK_OFF = "CrashLoopBackOff"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a pod has come."""

    stage: Stage
    ip: str
    restarts: int = 0
    message: str = ""  # why it crashed

    @property
    def is_initialized(self) -> bool:
        return self.stage not in (Stage.CREATING, Stage.INITIALIZING)


def status_at(pod: Object, progress: Progress, now: str) -> dict[str, Any]:
    """The whole status. Conditions that others wrote stay."""
    before = pod.get("status", {})
    is_running = progress.stage in (Stage.RUNNING, Stage.READY)
    status: dict[str, Any] = {
        "phase": "Running" if progress.is_initialized else "Pending",
        "conditions": conditions.rewritten(before.get("conditions", []), _verdicts(progress), now),
        "hostIP": "127.0.0.1",
        "startTime": before.get("startTime", now),
        "containerStatuses": [_container(item, progress, now) for item in pod["spec"]["containers"]],
    }
    if pod["spec"].get("initContainers"):
        status["initContainerStatuses"] = [_init(item, progress) for item in pod["spec"]["initContainers"]]
    if progress.is_initialized or is_running:
        status |= {"podIP": progress.ip, "podIPs": [{"ip": progress.ip}]}
    return status


def _verdicts(progress: Progress) -> list[Verdict]:
    is_ready = progress.stage is Stage.READY
    unready = "" if is_ready else "ContainersNotReady"
    uninitialized = "" if progress.is_initialized else "ContainersNotInitialized"
    return [
        Verdict(type="PodScheduled", status="True"),
        Verdict(type="Initialized", status=str(progress.is_initialized), reason=uninitialized),
        Verdict(type="ContainersReady", status=str(is_ready), reason=unready),
        Verdict(type="Ready", status=str(is_ready), reason=unready),
    ]


def _container(container: Object, progress: Progress, now: str) -> dict[str, Any]:
    is_running = progress.stage in (Stage.RUNNING, Stage.READY)
    waiting = {"reason": progress.stage.value} | ({"message": progress.message} if progress.message else {})
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": progress.stage is Stage.READY,
        "started": is_running,
        "restartCount": progress.restarts,
        "state": {"running": {"startedAt": now}} if is_running else {"waiting": waiting},
    }


def _init(container: Object, progress: Progress) -> dict[str, Any]:
    if progress.stage is Stage.CREATING:
        state: dict[str, Any] = {"waiting": {"reason": Stage.INITIALIZING.value}}
    elif progress.stage is Stage.INITIALIZING:
        state = {"running": {}}
    else:
        state = {"terminated": {"exitCode": 0, "reason": "Completed"}}
    return {
        "name": container["name"],
        "image": container.get("image", ""),
        "imageID": "",
        "ready": progress.is_initialized,
        "restartCount": 0,
        "state": state,
    }
