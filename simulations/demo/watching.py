"""What the demo sees of the cluster: pods by phase, replica-seconds, and every decision with its reasons.

Everything comes from two watches, as anyone with read access could do it: pods and ScaledServices.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoscaler.policy.types import PodPhase
from autoscaler.timestamps import unix_s
from simulations.cluster.api import PODS, SCALED_SERVICES, Object, ObjectApi, WatchEvent
from simulations.demo.setting import NAMESPACE, SERVICE

POD_LABELS = {"serving.kserve.io/inferenceservice": SERVICE}


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSeen:
    """A decision that changed the number; `at_s` counts from the traffic's start."""

    at_s: float
    before: int
    after: int
    reason: str
    steps: tuple[Mapping[str, object], ...]

    @property
    def interest(self) -> tuple[int, int]:
        """How much there is to explain: the change, then the steps."""
        return abs(self.after - self.before), len(self.steps)


class Watched:
    """The state of the service, event by event. `now_s` of every call is the same clock's."""

    def __init__(self) -> None:
        self.decisions: list[DecisionSeen] = []
        self.desired: int | None = None
        self.told: tuple[Object, float] | None = None  # the ScaledService at the most interesting decision, and when
        self._phases: dict[str, PodPhase] = {}
        self._changes: set[tuple[str, int, int]] = set()  # as many as decisions
        self._begun_at_s: float | None = None
        self._counted_to_s = 0.0
        self._replica_seconds = 0.0

    @property
    def replicas(self) -> int:
        """Pods that exist, whatever their phase: each holds its GPU."""
        return len(self._phases)

    @property
    def phases(self) -> Counter[PodPhase]:
        """Pods by phase."""
        return Counter(self._phases.values())

    def begin(self, now_s: float) -> None:
        """The traffic starts: count from here."""
        self._begun_at_s = self._counted_to_s = now_s
        self._replica_seconds = 0.0

    def replica_seconds(self, now_s: float) -> float:
        """Integral of the pods that existed since the traffic's start, up to now."""
        self._count(now_s)
        return self._replica_seconds

    def take(self, event: WatchEvent, now_s: float) -> None:
        """Take one event of either watch."""
        if event.object["metadata"].get("namespace") != NAMESPACE:
            return
        if event.object.get("kind") == SCALED_SERVICES.kind:
            self._take_service(event.object, now_s)
        elif POD_LABELS.items() <= (event.object["metadata"].get("labels") or {}).items():
            self._take_pod(event, now_s)

    def _take_pod(self, event: WatchEvent, now_s: float) -> None:
        self._count(now_s)
        name = event.object["metadata"]["name"]
        if event.type == "DELETED":
            self._phases.pop(name, None)
        else:
            self._phases[name] = phase_of(event.object)

    def _count(self, now_s: float) -> None:
        if self._begun_at_s is not None and now_s > self._counted_to_s:
            self._replica_seconds += self.replicas * (now_s - self._counted_to_s)
            self._counted_to_s = now_s

    def _take_service(self, service: Object, now_s: float) -> None:
        if service["metadata"]["name"] != SERVICE:
            return
        status = service.get("status") or {}
        decision = status.get("decision") or {}
        self.desired = decision.get("replicas", self.desired)
        for change in reversed(status.get("recentChanges") or ()):
            key = change["time"], change["before"], change["after"]
            if key in self._changes:
                continue
            self._changes.add(key)
            if self._begun_at_s is not None:
                self._keep(change, decision, service, now_s)

    def _keep(self, change: Object, decision: Object, service: Object, now_s: float) -> None:
        """A status may tell of several changes, to the second; its steps are those of the last, which is news."""
        is_last = decision.get("replicas") == change["after"] and decision.get("current") == change["before"]
        at_s = now_s if is_last else (unix_s(change["time"]) or now_s)
        seen = DecisionSeen(
            at_s=round(at_s - (self._begun_at_s or at_s), 2),
            before=change["before"],
            after=change["after"],
            reason=change["reason"],
            steps=tuple(decision["steps"]) if is_last else (),
        )
        # A status that came after the next pass explains that one; better so than nothing to show.
        if self.told is None or (is_last and all(seen.interest > other.interest for other in self.decisions)):
            self.told = service, now_s
        self.decisions.append(seen)


def phase_of(pod: Object) -> PodPhase:
    """Where a pod is on its way, for people who watch."""
    if "deletionTimestamp" in pod["metadata"]:
        return PodPhase.TERMINATING
    conditions = {c["type"]: c for c in (pod.get("status") or {}).get("conditions") or ()}
    if conditions.get("Ready", {}).get("status") == "True":
        return PodPhase.READY
    if conditions.get("PodScheduled", {}).get("status") == "False":
        return PodPhase.UNSCHEDULABLE
    return PodPhase.STARTING


async def watch(api: ObjectApi, watched: Watched, now_s: Callable[[], float]) -> None:
    """Follow both kinds for ever."""
    async for event in api.watch([PODS, SCALED_SERVICES]):
        watched.take(event, now_s())
