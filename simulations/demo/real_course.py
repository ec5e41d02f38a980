"""What happens to real servers in the demo: when each pod came, served, was told to go and went; what was asked for.

All times are those of one clock here, when the watch told it; nothing is taken from what the controller measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoscaler.policy.types import PodPhase
from simulations.cluster.api import PODS, SCALED_SERVICES, Object, ObjectApi, WatchEvent
from simulations.demo.setting import NAMESPACE, SERVICE
from simulations.demo.watching import POD_LABELS, Watched, phase_of


@dataclass(slots=True, kw_only=True)
class PodLife:
    """One replica, from the first event to the last."""

    name: str
    created_at_s: float
    ready_at_s: float | None = None
    used_at_s: float | None = None  # when a decision was first based on its metrics
    told_to_go_at_s: float | None = None
    gone_at_s: float | None = None

    @property
    def start_s(self) -> float | None:
        """From the pod's creation until it was Ready."""
        return None if self.ready_at_s is None else self.ready_at_s - self.created_at_s

    @property
    def used_after_s(self) -> float | None:
        """From Ready until its metrics counted."""
        return None if self.ready_at_s is None or self.used_at_s is None else self.used_at_s - self.ready_at_s

    @property
    def drain_s(self) -> float | None:
        """From the request to go until the pod was gone."""
        if self.told_to_go_at_s is None or self.gone_at_s is None:
            return None
        return self.gone_at_s - self.told_to_go_at_s


class Course:
    """Pods and wishes, event by event."""

    def __init__(self) -> None:
        self.lives: dict[str, PodLife] = {}
        self.status: Object = {}
        self.wishes: dict[str, int] = {}  # the most that each lens has asked for

    @property
    def serving(self) -> Sequence[PodLife]:
        """Ready and not told to go, in the order in which they became ready."""
        ready = (life for life in self.lives.values() if life.ready_at_s is not None and life.told_to_go_at_s is None)
        return sorted(ready, key=lambda life: life.ready_at_s or 0.0)

    def take(self, event: WatchEvent, now_s: float) -> None:
        """Take one event of either watch."""
        metadata = event.object["metadata"]
        if metadata.get("namespace") != NAMESPACE:
            return
        if event.object.get("kind") == SCALED_SERVICES.kind and metadata["name"] == SERVICE:
            self._take_status(event.object.get("status") or {}, now_s)
        elif POD_LABELS.items() <= (metadata.get("labels") or {}).items():
            self._take_pod(event, now_s)

    def _take_pod(self, event: WatchEvent, now_s: float) -> None:
        name = event.object["metadata"]["name"]
        life = self.lives.setdefault(name, PodLife(name=name, created_at_s=now_s))
        phase = phase_of(event.object)
        if event.type == "DELETED":
            life.gone_at_s = now_s
        elif phase is PodPhase.TERMINATING:
            life.told_to_go_at_s = life.told_to_go_at_s or now_s
        elif phase is PodPhase.READY:
            life.ready_at_s = life.ready_at_s or now_s

    def _take_status(self, status: Object, now_s: float) -> None:
        self.status = status
        scraped = int((status.get("freshness") or {}).get("podsScraped", 0))
        for life in self.serving[:scraped]:
            life.used_at_s = life.used_at_s or now_s
        for lens in (status.get("decision") or {}).get("lenses") or ():
            if "replicas" in lens:
                self.wishes[lens["name"]] = max(self.wishes.get(lens["name"], 0), lens["replicas"])


async def follow(api: ObjectApi, watched: Watched, course: Course, now_s: Callable[[], float]) -> None:
    """Follow pods and ScaledServices for ever."""
    async for event in api.watch([PODS, SCALED_SERVICES]):
        watched.take(event, now_s())
        course.take(event, now_s())
