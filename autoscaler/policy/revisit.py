"""When time alone could change the answer: until then, only news needs another decision."""

import math

from autoscaler.policy.behavior import next_expiry_s, next_period_end_s
from autoscaler.policy.limits import DRAIN_MAX_S, Case, settle_s
from autoscaler.policy.memory import Memory

# At least this often even so: it bounds the damage of a cause that is not listed here.
REVISIT_MAX_S = 600.0


def revisit_at_s(case: Case, memory: Memory) -> float:
    """The earliest moment at which time alone makes a difference. `memory` is the one just made."""
    now_s, policy = case.now_s, case.policy
    at_s = min(now_s + REVISIT_MAX_S, case.fleet.changes_at_s, _behavior_s(case, memory))
    if case.seen.upstream_observed_at_s is not None:
        at_s = min(at_s, _upstream_edge_s(case.seen.upstream_observed_at_s, policy.targets.max_age_s, now_s))
    if memory.idle_since_s is not None and policy.zero.enabled:
        at_s = min(at_s, _after(memory.idle_since_s + policy.zero.idle_s, now_s))
    if memory.forecast is not None and memory.open_bin is not None:
        at_s = min(at_s, (memory.open_bin.index + 1) * memory.forecast.bin_s)
    return at_s


def _behavior_s(case: Case, memory: Memory) -> float:
    """When a window, a rate period or the rest after a removal ends."""
    now_s, up, down = case.now_s, case.policy.scale_up, case.policy.scale_down
    at_s = math.inf
    if memory.wishes.highs:
        at_s = next_expiry_s(memory.wishes.highs, down.stabilization_window_s, now_s)
    if memory.wishes.lows:
        at_s = min(at_s, next_expiry_s(memory.wishes.lows, up.stabilization_window_s, now_s))
    if memory.changes:
        at_s = min(at_s, next_period_end_s(up, memory.changes, now_s), next_period_end_s(down, memory.changes, now_s))
    if memory.shrunk_at_s is not None:
        at_s = min(at_s, _after(memory.shrunk_at_s + settle_s(case), now_s))
        at_s = min(at_s, _after(memory.shrunk_at_s + DRAIN_MAX_S, now_s))
    return at_s


def _upstream_edge_s(observed_at_s: float, max_age_s: float, now_s: float) -> float:
    """When the count of requests held upstream goes stale, or stops to come from the future."""
    return min(_after(observed_at_s - max_age_s, now_s), _after(observed_at_s + max_age_s, now_s))


def _after(at_s: float, now_s: float) -> float:
    return at_s if at_s > now_s else math.inf
