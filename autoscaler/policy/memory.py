"""What a service's decisions remember from one to the next. Plain data: see `recall.py` for saving it."""

from dataclasses import dataclass, field, replace

from autoscaler.policy.behavior import Change, Wishes, changed
from autoscaler.policy.capacity import CapacityRecord
from autoscaler.policy.demand import QueueLook
from autoscaler.policy.forecast import ForecastRecord, OpenBin
from autoscaler.policy.lead_time import StartRecord, learn_starts
from autoscaler.policy.types import Observation
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
    is_restored: bool = False  # read from where it was saved, perhaps a minute before the last decision

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
    if memory.is_restored:
        memory = _reseeded(memory, seen.replicas)
    starts = learn_starts(memory.starts, memory.starting, seen.pods)
    if starts is not memory.starts:
        memory = replace(memory, starts=starts)
    added = seen.replicas - memory.seen_replicas
    if added == 0:
        return memory
    # A number that we asked for came when we asked (as the HPA books its own events); any other came from elsewhere.
    at_s = memory.asked_at_s if seen.replicas == memory.asked_replicas else now_s
    return replace(
        memory,
        seen_replicas=seen.replicas,
        changes=changed(memory.changes, at_s, added, now_s),
        requested_at_s=at_s if added > 0 else memory.requested_at_s,
        shrunk_at_s=at_s if added < 0 else memory.shrunk_at_s,
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
