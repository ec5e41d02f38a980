"""What the demand of a service looks like over a day: the mean of each five minutes, later days weighing more."""

from dataclasses import dataclass

DAY_S = 86_400.0
# Five minutes: fine enough for ramps, coarse enough that a slot holds several bins.
SLOT_S = 300.0
SLOTS = int(DAY_S / SLOT_S)
# Weight of the newest day (an older day still counts for several more).
NEWEST_DAY_RATIO = 0.4
UNKNOWN = -1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Mean demand by time of day (UTC); `UNKNOWN` where none was seen. The open slot is averaged apart."""

    means_tokens_per_s: tuple[float, ...] = (UNKNOWN,) * SLOTS
    slot: int = -1  # counted from the epoch
    slot_tokens: float = 0.0
    slot_covered_s: float = 0.0
    watched_s: float = 0.0


EMPTY_PROFILE = Profile()


def with_demand(profile: Profile, tokens_per_s: float, at_s: float, span_s: float) -> Profile:
    """Count a span of demand in the slot where it begins; a slot that ended joins the day."""
    slot = int(at_s // SLOT_S)
    means, tokens, covered_s = profile.means_tokens_per_s, profile.slot_tokens, profile.slot_covered_s
    if slot != profile.slot:
        if covered_s > 0:
            means = _with_slot(means, profile.slot % SLOTS, tokens / covered_s)
        tokens = covered_s = 0.0
    return Profile(
        means_tokens_per_s=means,
        slot=slot,
        slot_tokens=tokens + tokens_per_s * span_s,
        slot_covered_s=covered_s + span_s,
        watched_s=profile.watched_s + span_s,
    )


def _with_slot(means: tuple[float, ...], place: int, mean: float) -> tuple[float, ...]:
    if means[place] != UNKNOWN:
        mean = means[place] + NEWEST_DAY_RATIO * (mean - means[place])
    return (*means[:place], mean, *means[place + 1 :])


def seasonal_difference(profile: Profile, at_s: float, ahead_s: float) -> float | None:
    """How much more than now there was `ahead_s` later, on earlier days; None before a day and that was watched."""
    if profile.watched_s < DAY_S + ahead_s:
        return None
    now, then = _mean_at(profile, at_s), _mean_at(profile, at_s + ahead_s)
    return None if now is None or then is None else then - now


def _mean_at(profile: Profile, at_s: float) -> float | None:
    """Linear between the middles of two slots: a step from slot to slot is no ramp."""
    place = at_s / SLOT_S - 0.5
    left = int(place // 1)
    before, after = profile.means_tokens_per_s[left % SLOTS], profile.means_tokens_per_s[(left + 1) % SLOTS]
    if before == UNKNOWN or after == UNKNOWN:
        return None
    return before + (after - before) * (place - left)
