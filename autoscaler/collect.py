"""Which pods are read how often, what they said, and when that is worth a pass of their service.

Every sample enters its pod's window. Most change no answer: a service is woken only when one crosses a lens's edge.
"""

import asyncio
import contextlib
import itertools
import math
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from autoscaler.kube.views import PodView
from autoscaler.policy.spec import LensTargets
from autoscaler.report import Freshness
from autoscaler.rhythm import (
    RATE_SPAN_MAX_S,
    UNHEARD,
    Level,
    is_news,
    level_of,
    rate_span_s,
    round_spacing_s,
    scrape_period_s,
)
from autoscaler.settings import MetricsEndpoint, ServicePolicy
from metrics.clock import Clock
from metrics.errors import ScrapeError
from metrics.sample import EngineSample, PodSignals
from metrics.target import ScrapeTarget, TimedTarget
from metrics.window import Window

# A pod that is read for the first time has said its word or failed by then: within a second, and its deadline.
FIRST_WORD_S = 4.0
# So long a decision waits for what the others say once an edge has them read: pages take milliseconds, an overloaded
# server's tens. Without it a request that went from one pod to another is counted on both.
ROUND_WAIT_S = 0.25
# Places a golden section apart divide a period evenly, however many there are and whichever are free: with random ones
# a service of ten pods is at times not heard for a third of a period.
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
# Targets are handed to the scrape loop at most so often: a rollout changes hundreds of pods within a second.
HAND_OVER_S = 0.2


@dataclass(slots=True)
class _Track:
    """One pod: its window, what it said when its service last had a reason to look, how the last scrape went."""

    key: str
    since_s: float  # when it was first to be read
    place: int = 0  # among the pods of its service; of one that goes, the next that comes has it
    window: Window = field(default_factory=Window)
    level: Level | None = None
    failure: str | None = None
    aimed: object = None  # address, endpoint and period that it is read by
    span_s: float = RATE_SPAN_MAX_S
    judged: EngineSample | None = None
    signals: PodSignals | None = None

    def is_new(self, now_s: float) -> bool:
        """Not heard yet, and no wonder."""
        return self.window.newest is None and self.failure is None and now_s - self.since_s < FIRST_WORD_S


@dataclass(slots=True)
class _Round:
    """All pods of a service read at once, since one of them crossed an edge."""

    edge_at_s: float  # when the page with the edge was asked for
    until_s: float  # when the decision waits no longer
    awaited: set[str]  # uids that have not said anything since
    is_over: asyncio.Event = field(default_factory=asyncio.Event)


class Collector:
    """Windows of all pods of all services. `wake(key)` asks for a pass."""

    def __init__(self, clock: Clock, *, wake: Callable[[str], None], period_min_s: float = 0.0) -> None:
        self._clock = clock
        self._period_min_s = period_min_s
        self._wake = wake
        self._tracks: dict[str, _Track] = {}  # by pod uid
        self._pods: dict[str, frozenset[str]] = {}  # uids by service
        self.targets: dict[str, TimedTarget] = {}
        self._edges: dict[str, LensTargets] = {}
        self._spacing_s: dict[str, float] = {}  # between two rounds of reading a whole service at once
        self._round_s: dict[str, float] = {}  # when the last one was
        self._rounds: dict[str, _Round] = {}  # that are under way
        self._owed: set[str] = set()  # services with an edge that came too soon after the last round
        self._changed = asyncio.Event()
        self.on_failure: Callable[[str], None] = lambda _kind: None  # telemetry's hook
        self.hasten: Callable[[str], None] = lambda _uid: None  # the scrape loop's: read this pod now

    def watch(self, key: str, pods: Sequence[PodView], policy: ServicePolicy, *, may_decide: bool = True) -> None:
        """Read exactly these pods for a service from now on, at the period that its load asks for.

        Where nobody will decide on the samples (a standby, a refusal), the idle period keeps the windows warm.
        """
        self._edges[key] = policy.spec.targets
        self._spacing_s[key] = max(round_spacing_s(policy.endpoint), self._period_min_s)
        period_s = self.period_s(key, policy) if may_decide else policy.endpoint.idle_period_s
        wanted = {pod.uid: pod for pod in pods if self._is_readable(pod)}
        for uid in self._pods.get(key, frozenset()) - wanted.keys():
            self._drop(uid)
        self._settle(key, wanted.keys())
        for pod in wanted.values():
            self._aim(key, pod, policy.endpoint, max(period_s, self._period_min_s))
        self._pods[key] = frozenset(wanted)

    def forget(self, key: str) -> None:
        """A service is no longer enrolled."""
        for uid in self._pods.pop(key, frozenset()):
            self._drop(uid)
        for table in (self._edges, self._spacing_s, self._round_s, self._rounds):
            table.pop(key, None)
        self._owed.discard(key)

    def period_s(self, key: str, policy: ServicePolicy) -> float:
        """Between two reads of one pod of a service that is decided on."""
        pods, max_age_s = len(self._pods.get(key, ())), policy.spec.targets.max_age_s
        return scrape_period_s(policy.endpoint, pods, is_busy=self.is_busy(key), max_age_s=max_age_s)

    def is_busy(self, key: str) -> bool:
        """Whether any pod holds requests, or none was heard yet: the first sample must not take an idle period."""
        tracks = [self._tracks[uid] for uid in self._pods.get(key, ())]
        newest = [track.window.newest for track in tracks if track.window.newest is not None]
        return not newest or any(s.running_requests or s.waiting_requests for s in newest)

    def on_result(self, uid: str, result: EngineSample | ScrapeError) -> None:
        """The scrape loop's result."""
        track = self._tracks.get(uid)
        if track is None:
            return
        is_awaited = self._is_awaited(uid, track.key, result)
        if isinstance(result, ScrapeError):
            track.failure = result.kind.value
            self.on_failure(result.kind.value)
            return
        track.failure = None
        if not track.window.add(result):
            return
        before, track.level = track.level, level_of(result, self._edges[track.key])
        if is_awaited:
            return  # by a pass that was woken, and sees it
        if is_news(track.level, before or UNHEARD):
            self._owed.add(track.key)
        elif before is None:
            self._wake(track.key)
        if track.key in self._owed and self._may_read_all(track.key, result.observed_at_s):
            self._owed.discard(track.key)
            self._wake(track.key)
            self._read_the_others(uid, track.key, result.observed_at_s)

    async def heard(self, key: str) -> None:
        """Wait, for a moment, until the pods that an edge had read have answered: a decision needs all of one time."""
        if (reads := self._rounds.get(key)) is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, reads.until_s - self._clock.now_s())):
                await reads.is_over.wait()
        if self._rounds.get(key) is reads:
            del self._rounds[key]

    def _is_awaited(self, uid: str, key: str, result: EngineSample | ScrapeError | None) -> bool:
        """Whether this is a pod's answer to the round; a page asked for before the edge is none."""
        reads = self._rounds.get(key)
        if reads is None or uid not in reads.awaited:
            return False
        if isinstance(result, EngineSample) and result.observed_at_s < reads.edge_at_s:
            return False
        reads.awaited.remove(uid)
        if not reads.awaited:
            reads.is_over.set()
            del self._rounds[key]
        return True

    def _may_read_all(self, key: str, now_s: float) -> bool:
        """Whether an edge may have the other pods read now.

        Soon after the last round it may not, and waits for a later sample of any pod, which comes soon under load: a
        decision on one new page and old ones counts what moved twice. Who is alone has nobody to wait for.
        """
        is_alone = len(self._pods.get(key, ())) <= 1
        return is_alone or now_s - self._round_s.get(key, -math.inf) >= self._spacing_s[key]

    def _read_the_others(self, uid: str, key: str, now_s: float) -> None:
        """What one pod says, the others may say too: no need to wait for their turns to know how much it is."""
        self._round_s[key] = now_s
        others = self._pods.get(key, frozenset()) - {uid}
        # Who failed last time is read, too, and not waited for.
        awaited = {other for other in others if (track := self._tracks.get(other)) and track.failure is None}
        if awaited:
            self._rounds[key] = _Round(now_s, self._clock.now_s() + ROUND_WAIT_S, awaited)
        for other in others:
            self.hasten(other)

    def signals(self, uid: str, now_s: float) -> PodSignals | None:
        """What a pod's recent samples say."""
        track = self._tracks.get(uid)
        if track is None:
            return None
        # Rates move with samples, not with time: passes between two samples share one reading.
        if track.judged is not track.window.newest or track.signals is None:
            track.judged = track.window.newest
            track.signals = track.window.signals(now_s=now_s, span_s=track.span_s)
        return track.signals

    def freshness(self, key: str, max_age_s: float, now_s: float) -> Freshness:
        """How well a service is seen."""
        tracks = [self._tracks[uid] for uid in self._pods.get(key, ())]
        ages = [now_s - t.window.newest.observed_at_s for t in tracks if t.window.newest is not None]
        fresh = [age for age in ages if age <= max_age_s]
        return Freshness(
            pods_scraped=len(fresh),
            pods_blind=len(tracks) - len(fresh),
            pods_new=sum(track.is_new(now_s) for track in tracks),
            oldest_sample_age_s=max(fresh, default=None),
            scrape_failures=Counter(track.failure for track in tracks if track.failure is not None),
        )

    async def run(self, set_targets: Callable[[Mapping[str, TimedTarget]], None]) -> None:
        """Hand changed targets to the scrape loop, for ever."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            set_targets(self.targets)
            await self._clock.sleep(HAND_OVER_S)

    def _settle(self, key: str, uids: Iterable[str]) -> None:
        """A track with a place for each pod that has none."""
        taken = {track.place for uid in uids if (track := self._tracks.get(uid)) is not None}
        free = (place for place in itertools.count() if place not in taken)
        for uid in uids:
            if uid not in self._tracks:
                self._tracks[uid] = _Track(key=key, since_s=self._clock.now_s(), place=next(free))

    def _aim(self, key: str, pod: PodView, endpoint: MetricsEndpoint, period_s: float) -> None:
        """Read one pod at a period; most passes change nothing about it."""
        track = self._tracks[pod.uid]
        aimed = (pod.ip, pod.address, endpoint, period_s)
        if track.aimed != aimed:
            track.aimed = aimed
            track.span_s = rate_span_s(endpoint.period_s)
            target, phase = scrape_target(pod, endpoint), phase_of(key, track.place)
            self.targets[pod.uid] = TimedTarget(target=target, period_s=period_s, phase=phase)
            self._changed.set()

    def _is_readable(self, pod: PodView) -> bool:
        """Ready, or ready once: an overloaded server fails its probe, and is just then worth listening to."""
        is_there = pod.ip is not None and not pod.is_terminating and not pod.is_over
        return is_there and (pod.ready_at_s is not None or pod.uid in self._tracks)

    def _drop(self, uid: str) -> None:
        if (track := self._tracks.pop(uid, None)) is not None:
            self._is_awaited(uid, track.key, None)
        if self.targets.pop(uid, None) is not None:
            self._changed.set()


def phase_of(key: str, place: int) -> float:
    """Where within a period a pod of a service is read, 0 to 1."""
    return (zlib.crc32(key.encode()) / 2**32 + place * _GOLDEN) % 1.0


def scrape_target(pod: PodView, endpoint: MetricsEndpoint) -> ScrapeTarget:
    """The pod's metrics page: the policy's word, else what the pod announces."""
    host = f"[{pod.ip}]" if pod.ip and ":" in pod.ip else pod.ip
    port, path = endpoint.port or pod.address.port, endpoint.path or pod.address.path
    return ScrapeTarget(
        key=pod.uid,
        url=f"{endpoint.scheme}://{host}:{port}{path}",
        bearer_token_file=endpoint.bearer_token_file,
        ca_file=endpoint.ca_file,
        insecure=endpoint.insecure_skip_verify,
    )
