"""A memory as compact JSON data for `ScaledService.status`, and back.

Times are kept as ages: a memory read later, or by a clock that differs, is as old as when it was written, because
nobody watched in between. The daily profile and the scores come back, the last minutes of demand do not.
Anything malformed is refused whole, never half read.
"""

from collections.abc import Mapping
from dataclasses import replace

from autoscaler.policy.behavior import KEPT_MAX, Wishes
from autoscaler.policy.capacity import KEPT_SAMPLES, UNKNOWN, CapacityRecord, estimate
from autoscaler.policy.errors import BadMemoryError
from autoscaler.policy.forecast import BIN_MAX_S, BIN_MIN_S, SEASON, TREND, ForecastRecord, Score
from autoscaler.policy.lead_time import KEPT_STARTS, KINDS_MAX, WATCHED_MAX, StartRecord, start_record
from autoscaler.policy.memory import Memory
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
        "capacity": {
            "samples": [_short(sample) for sample in memory.capacity.samples_tokens_per_s],
            "windows": memory.capacity.windows,
            "regime": memory.capacity.learned.regime,
            "demonstrated": memory.capacity.learned.demonstrated_tokens_per_s,
            "trusted": memory.capacity.learned.trusted_tokens_per_s,
        },
        "forecast": None if memory.forecast is None else _dump_forecast(memory.forecast),
    }


def _age(at_s: float, now_s: float) -> float:
    return round(max(0.0, now_s - at_s), 3)


def _short(value: float) -> float:
    """Four digits: what is learned is not known better."""
    return float(f"{value:.4g}")


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
    """The memory as if it had been written now. Raises BadMemoryError."""
    fields = Fields(data)
    if data.get("version") != VERSION:
        raise fields.refuse("version", f"{VERSION}")
    shrunk_ago_s, idle_ago_s = fields.optional_number("shrunkAgo"), fields.optional_number("idleAgo")
    return Memory(
        decided_at_s=now_s,
        seen_replicas=fields.whole("replicas"),
        asked_replicas=fields.whole("asked"),
        asked_at_s=now_s - fields.number("askedAgo"),
        requested_at_s=now_s - fields.number("requestedAgo"),
        shrunk_at_s=None if shrunk_ago_s is None else now_s - shrunk_ago_s,
        idle_since_s=None if idle_ago_s is None else now_s - idle_ago_s,
        wishes=Wishes(
            wish=fields.whole("wish"),
            highs=_times(fields, "highs", now_s),
            lows=_times(fields, "lows", now_s),
        ),
        changes=_times(fields, "changes", now_s),
        starting=fields.texts("starting", most=WATCHED_MAX),
        starts=tuple(_load_start(start) for start in fields.objects("starts", most=KINDS_MAX)),
        capacity=_load_capacity(fields.child("capacity"), now_s),
        forecast=None if data.get("forecast") is None else _load_forecast(fields.child("forecast")),
        is_restored=True,
    )


def _times(fields: Fields, name: str, now_s: float) -> tuple[tuple[float, int], ...]:
    return tuple((now_s - age_s, replicas) for age_s, replicas in fields.pairs(name, most=KEPT_MAX))


def _load_start(fields: Fields) -> StartRecord:
    durations_s = fields.numbers("durations", most=KEPT_STARTS)
    if not durations_s:
        raise fields.refuse("durations", "at least one number")
    try:
        tier = Tier(fields.text("tier"))
    except ValueError as exc:
        raise fields.refuse("tier", " | ".join(Tier)) from exc
    return start_record(tier, fields.text("nodeClass"), durations_s)


def _load_capacity(fields: Fields, now_s: float) -> CapacityRecord:
    samples = fields.numbers("samples", most=KEPT_SAMPLES)
    windows = fields.whole("windows")
    regime = fields.text("regime") or UNKNOWN
    learned = estimate(samples, windows, regime, fields.optional_number("demonstrated"))
    learned = replace(learned, trusted_tokens_per_s=fields.optional_number("trusted"))
    return CapacityRecord(
        samples_tokens_per_s=samples,
        windows=windows,
        learned_at_s=now_s,
        demonstrated_at_s=now_s,
        learned=learned,
        learned_before=learned,
    )


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
