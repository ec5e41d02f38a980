"""What a service's decisions remember from one to the next. Plain data: see `recall.py` for saving it."""

from collections import Counter
from dataclasses import dataclass, field, replace

from autoscaler.policy.behavior import Change, Wishes, changed
from autoscaler.policy.capacity import CapacityRecord
from autoscaler.policy.demand import QueueLook
from autoscaler.policy.forecast import ForecastRecord, OpenBin
from autoscaler.policy.lead_time import StartRecord, learn_starts
from autoscaler.policy.types import Observation, PodPhase
from metrics.quick import quick

# Decisions come at least every ten minutes (`revisit_at_s`). A longer gap, or a clock that went back, is time in
# which nobody looked, or no time at all: it must not let a stabilisation window expire.
UNWATCHED_S = 900.0


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """State in, state out: `decide` returns the next one."""

    decided_at_s: float
    seen_replicas: int  # what the scale subresource said
    asked_replicas: int  # what was decided then
    asked_at_s: float
    wishes: Wishes
    changes: tuple[Change, ...] = ()
    requested_at_s: float = 0.0  # when the replicas last grew
    shrunk_at_s: float | None = None
    idle_since_s: float | None = None
    starting: tuple[str, ...] = ()  # pods whose start-up is being measured
    starts: tuple[StartRecord, ...] = ()
    looks: tuple[QueueLook, ...] = ()  # at the queue, in the last seconds
    capacity: CapacityRecord = field(default_factory=CapacityRecord)
    forecast: ForecastRecord | None = None
    open_bin: OpenBin | None = None
    is_restored: bool = False  # read from where it was saved, perhaps a minute before its writer's last decision

    @classmethod
    def start(cls, replicas: int, now_s: float) -> "Memory":
        """Nothing is known but the present number: for a whole window nothing shrinks below it."""
        return cls(
            decided_at_s=now_s,
            seen_replicas=replicas,
            asked_replicas=replicas,
            asked_at_s=now_s,
            requested_at_s=now_s,
            wishes=Wishes(wish=replicas),
        )


def caught_up(memory: Memory, seen: Observation, now_s: float) -> Memory:
    """Memory as of now: unwatched time taken out, what started and what changed since then noted."""
    elapsed_s = now_s - memory.decided_at_s
    if not 0 <= elapsed_s <= UNWATCHED_S:
        memory = shifted(memory, elapsed_s)
    starts = learn_starts(memory.starts, memory.starting, seen.pods)
    if starts is not memory.starts:
        memory = replace(memory, starts=starts)
    if seen.replicas != memory.seen_replicas:
        memory = _with_changes(memory, _since_seen(memory, seen, now_s), seen.replicas, now_s)
    return _reseeded(memory, seen.replicas) if memory.is_restored else memory


def _since_seen(memory: Memory, seen: Observation, now_s: float) -> tuple[Change, ...]:
    """What changed since the last decision, and when."""
    added = seen.replicas - memory.seen_replicas
    if seen.replicas == memory.asked_replicas:
        # A number that we asked for came when we asked, as the HPA books its own events.
        return ((memory.asked_at_s, added),)
    # Any other came from elsewhere. Since a memory was saved, that was who saved it: the pods tell when.
    return _grown(seen, added, now_s) if memory.is_restored and added > 0 else ((now_s, added),)


def _grown(seen: Observation, added: int, now_s: float) -> tuple[Change, ...]:
    """The newest pods are those that were added; what has no pod yet was added now."""
    came_s = sorted(min(pod.created_at_s, now_s) for pod in seen.pods if pod.phase is not PodPhase.TERMINATING)
    missing = min(added, max(0, seen.replicas - len(came_s)))
    counts = Counter(came_s[len(came_s) - (added - missing) :])
    if missing:
        counts[now_s] += missing
    return tuple(counts.items())


def _with_changes(memory: Memory, news: tuple[Change, ...], replicas: int, now_s: float) -> Memory:
    changes = memory.changes
    for at_s, added in news:
        changes = changed(changes, at_s, added, now_s)
    newest_s, added = news[-1]
    return replace(
        memory,
        seen_replicas=replicas,
        changes=changes,
        requested_at_s=newest_s if added > 0 else memory.requested_at_s,
        shrunk_at_s=newest_s if added < 0 else memory.shrunk_at_s,
    )


def _reseeded(memory: Memory, replicas: int) -> Memory:
    """A saved wish may be older than the last decision: until a whole window has passed, the present number holds."""
    wishes = memory.wishes
    wish = max(wishes.wish, replicas)
    highs = tuple(past for past in wishes.highs if past[1] > wish)
    return replace(memory, wishes=Wishes(wish=wish, highs=highs, lows=wishes.lows), is_restored=False)


def shifted(memory: Memory, by_s: float) -> Memory:
    """The same memory at another time. The forecast keeps its hours of day and loses its last minutes."""
    wishes = memory.wishes
    return replace(
        memory,
        decided_at_s=memory.decided_at_s + by_s,
        asked_at_s=memory.asked_at_s + by_s,
        requested_at_s=memory.requested_at_s + by_s,
        shrunk_at_s=None if memory.shrunk_at_s is None else memory.shrunk_at_s + by_s,
        idle_since_s=None if memory.idle_since_s is None else memory.idle_since_s + by_s,
        changes=tuple((at_s + by_s, added) for at_s, added in memory.changes),
        wishes=Wishes(
            wish=wishes.wish,
            highs=tuple((until_s + by_s, wish) for until_s, wish in wishes.highs),
            lows=tuple((until_s + by_s, wish) for until_s, wish in wishes.lows),
        ),
        capacity=replace(
            memory.capacity,
            learned_at_s=memory.capacity.learned_at_s + by_s,
            changed_at_s=memory.capacity.changed_at_s + by_s,
            demonstrated_at_s=memory.capacity.demonstrated_at_s + by_s,
            looked_at_s=memory.capacity.looked_at_s + by_s,
            over_at_s=memory.capacity.over_at_s + by_s,
            saturated_since_s=tuple((name, since_s + by_s) for name, since_s in memory.capacity.saturated_since_s),
        ),
        looks=(),
        open_bin=None,
    )
