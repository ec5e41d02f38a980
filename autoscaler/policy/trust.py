"""What calm lets replicas be trusted with: a fleet that a low capacity keeps large would never find out.

It never saturates, so nothing that is measured contradicts the number. Hence: while only what is known of capacity
holds the fleet and all other signals are calm, a replica is trusted with one percent more every minute. A minute over
a target takes four percent back. This is the delay-based probing of TCP Vegas (Brakmo and Peterson, IEEE JSAC 13(8),
1995), which leaves off before anything is lost. Saturation ends it: then what was measured counts (`capacity.py`).
"""

from dataclasses import replace

from autoscaler.policy.capacity import CapacityRecord, capacity_at, shown_tokens_per_s, usable_tokens_per_s
from autoscaler.policy.evidence import LEAP_RATIO, Evidence
from autoscaler.policy.lenses import Reading
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import Capacity, Reason

# Two looks share no window of rates (30 to 60 s).
LOOK_EVERY_S = 60.0
# Half as much again in 41 minutes, double in 70: what goes too early is one replica, missed by a little.
RAISE_RATIO = 1.01
# Whoever was trusted with more and had to be relieved is trusted with no more for an hour. In replays of a week,
# six hours cost 2 % more GPUs; a minute cost 5 % fewer, and 0.15 points of attainment.
PATIENCE_S = 3600.0
# And a minute over a target undoes four that were calm.
LOWER_RATIO = RAISE_RATIO**4
# Queues and latencies rise steeply before a replica is full: from half of a target on, it may be.
CALM_RATIO = 0.5


def watch_calm(record: CapacityRecord, fleet: Fleet, evidence: Evidence, policy: PolicySpec) -> CapacityRecord:
    """The record with the trust of the next minute. What cannot be seen changes nothing."""
    at_s, trusted = fleet.newest_sample_s, record.learned.trusted_tokens_per_s
    if trusted is not None and at_s - record.over_at_s >= LOOK_EVERY_S and _is_over(fleet, evidence):
        return _trusting(replace(record, over_at_s=at_s), trusted / LOWER_RATIO, at_s)
    if at_s - record.looked_at_s < LOOK_EVERY_S:
        return record
    record = replace(record, looked_at_s=at_s)
    # Without a learned capacity every removal is a trial, one per window, and trust stays near what was shown.
    patience_s = LOOK_EVERY_S if record.learned.tokens_per_s is None else PATIENCE_S
    known = _known_tokens_per_s(record.learned, policy)
    if known is None or at_s - record.over_at_s < patience_s or not _is_held(known, fleet, evidence, policy):
        return record
    if not all([_is_calm(reading, fleet.coming) for reading in evidence.readings]):
        return record
    return _trusting(record, _more(record.learned, known), at_s)


def _trusting(record: CapacityRecord, trusted_tokens_per_s: float, at_s: float) -> CapacityRecord:
    learned = replace(record.learned, trusted_tokens_per_s=trusted_tokens_per_s)
    return replace(record, changed_at_s=at_s, learned=learned, learned_before=capacity_at(record, at_s))


def _is_over(fleet: Fleet, evidence: Evidence) -> bool:
    """Whether a queue or a latency asks for more than there is."""
    return any([(reading.lens.replicas or 0) > fleet.coming and not reading.is_use for reading in evidence.readings])


def _known_tokens_per_s(capacity: Capacity, policy: PolicySpec) -> float | None:
    """What sizes the fleet now; None where that is not for us to learn."""
    if policy.targets.tokens_per_s is not None or not policy.targets.use_learned_capacity:
        return None
    return usable_tokens_per_s(capacity, policy) or shown_tokens_per_s(capacity)


def _is_held(known_tokens_per_s: float, fleet: Fleet, evidence: Evidence, policy: PolicySpec) -> bool:
    """Whether that keeps every replica, with all of them serving: fewer requests than it allows show nothing."""
    demand = evidence.demand_tokens_per_s
    if demand is None or fleet.coming < 2 or fleet.coming > len(fleet.signals):
        return False
    return demand > known_tokens_per_s * (1.0 - policy.scale_down.tolerance_ratio) * (fleet.coming - 1)


def _is_calm(reading: Reading, coming: int) -> bool:
    """Whether a signal is far from its target, and its lens could spare a replica. What cannot be read may be near."""
    lens = reading.lens
    if lens.reason is Reason.FOLLOWING_TOKENS:
        return True
    if lens.value is None or lens.target is None:
        return False
    return (lens.replicas or 0) < coming if reading.is_use else lens.value < CALM_RATIO * lens.target


def _more(capacity: Capacity, known_tokens_per_s: float) -> float:
    more = known_tokens_per_s * RAISE_RATIO
    if capacity.tokens_per_s is None and capacity.demonstrated_tokens_per_s is not None:
        # Where nothing was ever seen to saturate, no step may be a leap.
        return min(more, LEAP_RATIO * capacity.demonstrated_tokens_per_s)
    return more
