"""A memory as compact JSON data for `ScaledService.status`, and back.

Times are kept as ages at the moment of saving. Who takes over within minutes goes on from that moment, as a leader
that never died; a memory read much later, or by a clock that differs, is as old as when it was written, because
nobody watched in between. The daily profile and the scores come back, the last minutes of demand do not.
Anything malformed is refused whole, never half read.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from autoscaler.policy.behavior import KEPT_MAX, Wishes
from autoscaler.policy.capacity import KEPT_SAMPLES, UNKNOWN, CapacityRecord, estimate
from autoscaler.policy.errors import BadMemoryError
from autoscaler.policy.forecast import BIN_MAX_S, BIN_MIN_S, SEASON, TREND, ForecastRecord, Score
from autoscaler.policy.lead_time import KEPT_STARTS, KINDS_MAX, WATCHED_MAX, StartRecord, start_record
from autoscaler.policy.memory import UNWATCHED_S, Memory
from autoscaler.policy.residuals import BINS
from autoscaler.policy.saved import Fields
from autoscaler.policy.season import SLOTS, Profile
from autoscaler.policy.season import UNKNOWN as UNKNOWN_SLOT
from autoscaler.policy.types import Tier

# Raised whenever the meaning of a field changes; another version is refused, and a fresh memory starts.
VERSION = 1


def dump(memory: Memory) -> dict[str, object]:
    """Plain data of a few kilobytes at most."""
    now_s = memory.decided_at_s
    return {
        "version": VERSION,
        "savedAt": round(now_s, 3),
        "replicas": memory.seen_replicas,
        "asked": memory.asked_replicas,
        "askedAgo": _age(memory.asked_at_s, now_s),
        "requestedAgo": _age(memory.requested_at_s, now_s),
        "shrunkAgo": None if memory.shrunk_at_s is None else _age(memory.shrunk_at_s, now_s),
        "idleAgo": None if memory.idle_since_s is None else _age(memory.idle_since_s, now_s),
        "wish": memory.wishes.wish,
        "highs": [[_age(until_s, now_s), wish] for until_s, wish in memory.wishes.highs],
        "lows": [[_age(until_s, now_s), wish] for until_s, wish in memory.wishes.lows],
        "changes": [[_age(at_s, now_s), added] for at_s, added in memory.changes],
        "starting": list(memory.starting),
        "starts": [
            {
                "tier": record.learned.tier.value,
                "nodeClass": record.learned.node_class,
                "durations": [_short(duration_s) for duration_s in record.durations_s],
            }
            for record in memory.starts
        ],
        "capacity": _dump_capacity(memory.capacity, now_s),
        "forecast": None if memory.forecast is None else _dump_forecast(memory.forecast),
    }


def _age(at_s: float, now_s: float) -> float:
    return round(max(0.0, now_s - at_s), 3)


def _known_age(at_s: float, now_s: float) -> float | None:
    return _age(at_s, now_s) if math.isfinite(at_s) else None


def _short(value: float) -> float:
    """Four digits: what is learned is not known better."""
    return float(f"{value:.4g}")


def _dump_capacity(record: CapacityRecord, now_s: float) -> dict[str, object]:
    return {
        "samples": [_short(sample) for sample in record.samples_tokens_per_s],
        "windows": record.windows,
        "regime": record.learned.regime,
        "demonstrated": record.learned.demonstrated_tokens_per_s,
        "trusted": record.learned.trusted_tokens_per_s,
        "learnedAgo": _known_age(record.learned_at_s, now_s),
        "demonstratedAgo": _known_age(record.demonstrated_at_s, now_s),
        "lookedAgo": _known_age(record.looked_at_s, now_s),
        "overAgo": _known_age(record.over_at_s, now_s),
    }


def _dump_forecast(record: ForecastRecord) -> dict[str, object]:
    return {
        "bin": record.bin_s,
        "bins": record.bins,
        "mean": _short(record.mean_tokens_per_s),
        "isBackfilled": record.is_backfilled,
        "trend": _dump_score(record.trend),
        "season": _dump_score(record.season),
        "changes": [_short(count) for count in record.changes],
        "profile": [_short(mean) for mean in record.profile.means_tokens_per_s],
        "watched": _short(record.profile.watched_s),
    }


def _dump_score(score: Score) -> dict[str, object]:
    return {
        "error": _short(score.error),
        "naiveError": _short(score.naive_error),
        "matured": score.matured,
        "residuals": [_short(count) for count in score.residuals],
    }


def load(data: Mapping[str, object], *, now_s: float) -> Memory:
    """The memory at the time when it was saved; as if that were now, where that is long ago. Raises BadMemoryError."""
    fields = Fields(data)
    if data.get("version") != VERSION:
        raise fields.refuse("version", f"{VERSION}")
    at_s = _saved_at_s(fields, now_s)
    shrunk_ago_s, idle_ago_s = fields.optional_number("shrunkAgo"), fields.optional_number("idleAgo")
    return Memory(
        decided_at_s=at_s,
        seen_replicas=fields.whole("replicas"),
        asked_replicas=fields.whole("asked"),
        asked_at_s=at_s - fields.number("askedAgo"),
        requested_at_s=at_s - fields.number("requestedAgo"),
        shrunk_at_s=None if shrunk_ago_s is None else at_s - shrunk_ago_s,
        # Nobody saw whether it stayed idle since: that time does not count.
        idle_since_s=None if idle_ago_s is None else now_s - idle_ago_s,
        wishes=Wishes(
            wish=fields.whole("wish"),
            highs=_times(fields, "highs", at_s),
            lows=_times(fields, "lows", at_s),
        ),
        changes=_times(fields, "changes", at_s),
        starting=fields.texts("starting", most=WATCHED_MAX),
        starts=tuple(_load_start(start) for start in fields.objects("starts", most=KINDS_MAX)),
        capacity=_load_capacity(fields.child("capacity"), at_s),
        forecast=None if data.get("forecast") is None else _load_forecast(fields.child("forecast")),
        is_restored=True,
    )


def _saved_at_s(fields: Fields, now_s: float) -> float:
    """When it was saved; now, where nobody knows, clocks differ, or a window may have ended since."""
    saved_at_s = fields.optional_number("savedAt")
    return saved_at_s if saved_at_s is not None and 0 <= now_s - saved_at_s <= UNWATCHED_S else now_s


def _times(fields: Fields, name: str, at_s: float) -> tuple[tuple[float, int], ...]:
    return tuple((at_s - age_s, replicas) for age_s, replicas in fields.pairs(name, most=KEPT_MAX))


def _load_start(fields: Fields) -> StartRecord:
    durations_s = fields.numbers("durations", most=KEPT_STARTS)
    if not durations_s:
        raise fields.refuse("durations", "at least one number")
    try:
        tier = Tier(fields.text("tier"))
    except ValueError as exc:
        raise fields.refuse("tier", " | ".join(Tier)) from exc
    return start_record(tier, fields.text("nodeClass"), durations_s)


def _load_capacity(fields: Fields, at_s: float) -> CapacityRecord:
    samples = fields.numbers("samples", most=KEPT_SAMPLES)
    windows = fields.whole("windows")
    regime = fields.text("regime") or UNKNOWN
    learned = estimate(samples, windows, regime, fields.optional_number("demonstrated"))
    learned = replace(learned, trusted_tokens_per_s=fields.optional_number("trusted"))
    return CapacityRecord(
        samples_tokens_per_s=samples,
        windows=windows,
        learned_at_s=_known_time_s(fields, "learnedAgo", at_s),
        demonstrated_at_s=_known_time_s(fields, "demonstratedAgo", at_s),
        looked_at_s=_known_time_s(fields, "lookedAgo", at_s),
        over_at_s=_known_time_s(fields, "overAgo", at_s),
        learned=learned,
        learned_before=learned,
    )


def _known_time_s(fields: Fields, name: str, at_s: float) -> float:
    age_s = fields.optional_number(name)
    return -math.inf if age_s is None else at_s - age_s


def _load_forecast(fields: Fields) -> ForecastRecord:
    bin_s = fields.number("bin", low=BIN_MIN_S)
    if bin_s > BIN_MAX_S:
        raise fields.refuse("bin", f"at most {BIN_MAX_S:g} s")
    means = fields.numbers("profile", most=SLOTS, low=UNKNOWN_SLOT)
    if len(means) != SLOTS:
        raise fields.refuse("profile", f"{SLOTS} numbers")
    return ForecastRecord(
        bin_s=bin_s,
        is_backfilled=fields.values.get("isBackfilled") is True,
        bins=fields.whole("bins"),
        mean_tokens_per_s=fields.number("mean"),
        trend=_load_score(fields.child("trend"), TREND),
        season=_load_score(fields.child("season"), SEASON),
        changes=_load_residuals(fields, "changes") if "changes" in fields.values else (),
        profile=Profile(means_tokens_per_s=means, watched_s=fields.number("watched")),
        note="just restarted",
    )


def _load_score(fields: Fields, method: str) -> Score:
    return Score(
        method=method,
        error=fields.number("error"),
        naive_error=fields.number("naiveError"),
        matured=fields.whole("matured"),
        residuals=_load_residuals(fields, "residuals"),
    )


def _load_residuals(fields: Fields, name: str) -> tuple[float, ...]:
    residuals = fields.numbers(name, most=BINS)
    if residuals and (len(residuals) != BINS or sum(residuals) <= 0):
        raise fields.refuse(name, f"{BINS} numbers with a sum above 0")
    return residuals


def load_or_start(data: Mapping[str, object] | None, *, replicas: int, now_s: float) -> tuple[Memory, str]:
    """The saved memory; without a readable one a fresh memory, and why."""
    if not data:
        return Memory.start(replicas, now_s), "nothing saved yet"
    try:
        return load(data, now_s=now_s), ""
    except BadMemoryError as exc:
        return Memory.start(replicas, now_s), str(exc)
