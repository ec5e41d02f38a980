"""The HPA's `behavior`: rate limits and stabilisation windows, in seconds, woken as often as one likes.

Formulas: kubernetes `pkg/controller/podautoscaler/horizontal.go`, the float arithmetic included, so that both agree.
One thing is stricter than sampling every 15 s: a wish holds until the next one, so nothing is forgotten between wakes.
"""

import math
from dataclasses import dataclass

from autoscaler.policy.spec import PolicyType, RateLimit, ScalingRules, SelectPolicy

# The API's longest period (autoscaling/v2 `periodSeconds`): older changes limit nothing.
LONGEST_PERIOD_S = 1800.0
# The API's longest `stabilizationWindowSeconds`: older wishes hold nothing.
LONGEST_WINDOW_S = 3600.0
# Changes and wishes kept; beyond, the oldest two become one that limits at least as much.
KEPT_MAX = 64

Change = tuple[float, int]  # (at_s, replicas added; negative: removed)
PastWish = tuple[float, int]  # (until_s, replicas): a wish that was in effect until then


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """The wish in effect and the past ones that can still hold a change.

    `highs` falls and `lows` rises from old to new, so each is no longer than the numbers wished for.
    """

    wish: int
    highs: tuple[PastWish, ...] = ()
    lows: tuple[PastWish, ...] = ()


def wished(wishes: Wishes, wish: int, now_s: float) -> Wishes:
    """A new wish: the old one was in effect until now."""
    old, oldest_s = wishes.wish, now_s - LONGEST_WINDOW_S
    highs, lows = wishes.highs, wishes.lows
    if old > wish:
        highs = (*(past for past in highs if past[1] > old and past[0] > oldest_s), (now_s, old))
    elif highs and (highs[-1][1] <= wish or highs[0][0] <= oldest_s):
        highs = tuple(past for past in highs if past[1] > wish and past[0] > oldest_s)
    if old < wish:
        lows = (*(past for past in lows if past[1] < old and past[0] > oldest_s), (now_s, old))
    elif lows and (lows[-1][1] >= wish or lows[0][0] <= oldest_s):
        lows = tuple(past for past in lows if past[1] < wish and past[0] > oldest_s)
    if old == wish and highs is wishes.highs and lows is wishes.lows:
        return wishes
    return Wishes(wish=wish, highs=_bounded(highs), lows=_bounded(lows))


def _bounded(past: tuple[PastWish, ...]) -> tuple[PastWish, ...]:
    # The oldest is also the most extreme: giving it the next one's end forgets the next one and holds longer.
    return past if len(past) <= KEPT_MAX else ((past[1][0], past[0][1]), *past[2:])


def highest_wish(wishes: Wishes, window_s: float, now_s: float) -> int:
    """The highest wish in effect within the window, the present one included."""
    start_s = now_s - window_s
    for until_s, wish in wishes.highs:
        if until_s > start_s and wish > wishes.wish:
            return wish
    return wishes.wish


def lowest_wish(wishes: Wishes, window_s: float, now_s: float) -> int:
    """The lowest wish in effect within the window, the present one included."""
    start_s = now_s - window_s
    for until_s, wish in wishes.lows:
        if until_s > start_s and wish < wishes.wish:
            return wish
    return wishes.wish


def next_expiry_s(past: tuple[PastWish, ...], window_s: float, now_s: float) -> float:
    """When the first of these past wishes leaves the window; infinity when none is in it."""
    for until_s, _ in past:
        if until_s + window_s > now_s:
            return until_s + window_s
    return math.inf


def changed(changes: tuple[Change, ...], at_s: float, added: int, now_s: float) -> tuple[Change, ...]:
    """Remember a change of the replicas, ours or another's."""
    kept = (*(change for change in changes if change[0] > now_s - LONGEST_PERIOD_S), (at_s, added))
    if len(kept) > KEPT_MAX:
        kept = ((kept[1][0], kept[0][1] + kept[1][1]), *kept[2:])
    return kept


def highest_allowed(rules: ScalingRules, current: int, changes: tuple[Change, ...], now_s: float) -> float:
    """How far the rate limits let the number grow now."""
    if rules.select_policy is SelectPolicy.DISABLED:
        return current
    if not rules.rate_limits:
        return math.inf
    select = min if rules.select_policy is SelectPolicy.MIN else max
    limits = [_grown(limit, _at_period_start(limit, current, changes, now_s)) for limit in rules.rate_limits]
    return max(select(limits), current)


def lowest_allowed(rules: ScalingRules, current: int, changes: tuple[Change, ...], now_s: float) -> int:
    """How far the rate limits let the number shrink now."""
    if rules.select_policy is SelectPolicy.DISABLED:
        return current
    if not rules.rate_limits:
        return 0
    # The policy of the largest change is the one with the lowest number.
    select = max if rules.select_policy is SelectPolicy.MIN else min
    limits = [_shrunk(limit, _at_period_start(limit, current, changes, now_s)) for limit in rules.rate_limits]
    return max(0, min(select(limits), current))


def _at_period_start(limit: RateLimit, current: int, changes: tuple[Change, ...], now_s: float) -> int:
    start_s = now_s - limit.period_s
    for at_s, added in changes:
        if at_s > start_s:
            current -= added
    return current


def _grown(limit: RateLimit, start: int) -> int:
    if limit.type is PolicyType.PODS:
        return start + limit.value
    return math.ceil(start * (1 + limit.value / 100))


def _shrunk(limit: RateLimit, start: int) -> int:
    if limit.type is PolicyType.PODS:
        return start - limit.value
    return int(start * (1 - limit.value / 100))


def next_period_end_s(rules: ScalingRules, changes: tuple[Change, ...], now_s: float) -> float:
    """When the first change leaves a period of these rules; infinity when none is in one."""
    first_s = math.inf
    for limit in rules.rate_limits:
        for at_s, _ in changes:
            if now_s < at_s + limit.period_s < first_s:
                first_s = at_s + limit.period_s
    return first_s
