"""Demand at now + lead time, from this service's own history, and whether that beats guessing no change.

Two simple methods stand in the slot: the recent trend, damped, and yesterday's difference (S(t+h) - S(t): never
yesterday's value itself, which is five times worse on LLM traffic). Both start from the last
value, are scored against it when their time comes, and count only while they beat it.
"""

from dataclasses import dataclass, replace

from autoscaler.policy.residuals import quantile_ratio, residual, with_residual
from autoscaler.policy.season import DAY_S, EMPTY_PROFILE, Profile, seasonal_difference, with_demand
from metrics.quick import quick

# A bin is a sixth of the horizon: shorter ones are noise, longer ones see a ramp too late.
BINS_PER_HORIZON = 6
BIN_MIN_S, BIN_MAX_S = 1.0, 60.0
# A longer horizon than this many bins is cut: the errors beyond are as large as the demand.
HORIZON_BINS_MAX = 120
# The trend is that between the two halves of the last bins, and half of it is believed (damped Holt).
TREND_BINS = 6
TREND_DAMPING_RATIO = 0.5
# A forecast counts after so many of its kind came due.
MATURED_MIN = 30
# Errors half as old as a day of minutes count half.
ERROR_DECAY_RATIO = 0.5 ** (1 / 1440)
# Demand is taken to hold between two looks, but not for longer than a minute (or two bins): after that it is unknown.
HOLD_MAX_S = 60.0

# No forecast may count, and yet demand moves: what it stays below three times in four vetoes a scale-in. A veto costs
# a replica for a while; nine times in ten was dearer and no safer in replays of real traffic.
LIKELY_QUANTILE = 0.75

LAST, TREND, SEASON = "last value", "damped trend", "seasonal difference"


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class OpenBin:
    """The bin that now falls into."""

    index: int
    fed_at_s: float
    demand_tokens_per_s: float | None  # holds since `fed_at_s`
    tokens: float = 0.0
    covered_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """How one method did against the last value, both at the same times."""

    method: str
    error: float = 0.0
    naive_error: float = 0.0
    matured: int = 0
    residuals: tuple[float, ...] = ()

    @property
    def skill_ratio(self) -> float | None:
        """Error ÷ the naive one; None while too few came due."""
        if self.matured < MATURED_MIN or self.naive_error <= 0:
            return None
        return self.error / self.naive_error


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What was forecast for a bin to come."""

    due_index: int
    naive: float
    trend: float | None
    season: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """The forecast made when the last bin closed."""

    method: str
    now_tokens_per_s: float
    p50_tokens_per_s: float
    p90_tokens_per_s: float
    skill_ratio: float


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastRecord:
    """All that forecasting remembers; changes only when a bin closes."""

    bin_s: float
    is_backfilled: bool = False
    bins: int = 0
    mean_tokens_per_s: float = 0.0
    closed: tuple[float | None, ...] = ()  # the last few, oldest first
    promises: tuple[Promise, ...] = ()
    trend: Score = Score(method=TREND)
    season: Score = Score(method=SEASON)
    changes: tuple[float, ...] = ()  # how demand changed over the horizon: residuals of guessing none
    profile: Profile = EMPTY_PROFILE
    outlook: Outlook | None = None
    likely_tokens_per_s: float | None = None  # what demand will likely stay below, whatever forecasts are worth
    note: str = "no history yet"


def bin_length_s(horizon_s: float) -> float:
    """Whole seconds, so that bins and the day share their borders."""
    return float(round(min(max(horizon_s / BINS_PER_HORIZON, BIN_MIN_S), BIN_MAX_S)))


def is_fit_for(record: ForecastRecord, horizon_s: float) -> bool:
    """Whether the bins still suit the horizon; twice too long or short is another question."""
    return 0.5 <= bin_length_s(horizon_s) / record.bin_s <= 2.0


def open_bin(bin_s: float, now_s: float) -> OpenBin:
    """An empty bin around now."""
    return OpenBin(index=int(now_s // bin_s), fed_at_s=now_s, demand_tokens_per_s=None)


def feed(
    record: ForecastRecord, bin_: OpenBin, demand_tokens_per_s: float | None, horizon_s: float, now_s: float
) -> tuple[ForecastRecord, OpenBin]:
    """Let the last demand hold until now, close the bins that ended, and go on with the new demand."""
    bin_s, held, at_s = record.bin_s, bin_.demand_tokens_per_s, bin_.fed_at_s
    if not 0 <= now_s - at_s <= max(HOLD_MAX_S, 2 * bin_s):
        fresh = open_bin(bin_s, now_s)
        return _interrupted(record), _fed(fresh, demand_tokens_per_s, now_s)
    index, tokens, covered_s = bin_.index, bin_.tokens, bin_.covered_s
    while now_s >= (index + 1) * bin_s:
        end_s = (index + 1) * bin_s
        if held is not None:
            tokens, covered_s = tokens + held * (end_s - at_s), covered_s + end_s - at_s
        # A bin seen for less than half of its time is unknown, not small.
        value = tokens / covered_s if covered_s >= bin_s / 2 else None
        record = close_bin(record, value, index, horizon_s)
        index, at_s, tokens, covered_s = index + 1, end_s, 0.0, 0.0
    if held is not None:
        tokens, covered_s = tokens + held * (now_s - at_s), covered_s + now_s - at_s
    return record, OpenBin(
        index=index, fed_at_s=now_s, demand_tokens_per_s=demand_tokens_per_s, tokens=tokens, covered_s=covered_s
    )


def _fed(bin_: OpenBin, demand_tokens_per_s: float | None, now_s: float) -> OpenBin:
    return OpenBin(index=bin_.index, fed_at_s=now_s, demand_tokens_per_s=demand_tokens_per_s)


def _interrupted(record: ForecastRecord) -> ForecastRecord:
    """After a gap the past bins say nothing about the next ones; scores and the daily profile stay."""
    return replace(
        record, closed=(), promises=(), outlook=None, likely_tokens_per_s=None, note="demand was not seen for a while"
    )


def close_bin(record: ForecastRecord, value: float | None, index: int, horizon_s: float) -> ForecastRecord:
    """Score what was forecast for this bin, learn from it, and forecast anew."""
    due = [promise for promise in record.promises if promise.due_index == index]
    promises = tuple(promise for promise in record.promises if promise.due_index > index)
    closed = (*record.closed[1 - TREND_BINS :], value)
    if value is None:
        unknown = replace(record, closed=closed, promises=promises, outlook=None, likely_tokens_per_s=None)
        return replace(unknown, note="demand cannot be seen")
    mean = value if record.bins == 0 else record.mean_tokens_per_s + 0.02 * (value - record.mean_tokens_per_s)
    trend, season, changes = record.trend, record.season, record.changes
    for promise in due:
        changes = with_residual(changes, residual(value, promise.naive, mean))
        trend = _scored(trend, promise.trend, promise.naive, value, mean)
        season = _scored(season, promise.season, promise.naive, value, mean)
    profile = with_demand(record.profile, value, index * record.bin_s, record.bin_s)
    ahead = min(max(1, round(horizon_s / record.bin_s)), HORIZON_BINS_MAX)
    promise = Promise(
        due_index=index + ahead,
        naive=value,
        trend=_trend(closed, ahead),
        season=_season(profile, value, index * record.bin_s, ahead * record.bin_s),
    )
    outlook, note = look_ahead(trend, season, promise, mean)
    return ForecastRecord(
        bin_s=record.bin_s,
        is_backfilled=record.is_backfilled,
        bins=record.bins + 1,
        mean_tokens_per_s=mean,
        closed=closed,
        promises=(*promises, promise),
        trend=trend,
        season=season,
        changes=changes,
        profile=profile,
        outlook=outlook,
        likely_tokens_per_s=quantile_ratio(changes, LIKELY_QUANTILE, value, mean),
        note=note,
    )


def _scored(score: Score, forecast: float | None, naive: float, value: float, mean: float) -> Score:
    if forecast is None:
        return score
    return Score(
        method=score.method,
        error=score.error * ERROR_DECAY_RATIO + abs(value - forecast),
        naive_error=score.naive_error * ERROR_DECAY_RATIO + abs(value - naive),
        matured=score.matured + 1,
        residuals=with_residual(score.residuals, residual(value, forecast, mean)),
    )


def _trend(closed: tuple[float | None, ...], ahead: int) -> float | None:
    known = [value for value in closed if value is not None]
    if len(known) < TREND_BINS:
        return None
    half = TREND_BINS // 2
    per_bin = (sum(known[half:]) - sum(known[:half])) / (half * half)
    return max(0.0, known[-1] + TREND_DAMPING_RATIO * per_bin * ahead)


def _season(profile: Profile, value: float, at_s: float, ahead_s: float) -> float | None:
    difference = seasonal_difference(profile, at_s, ahead_s)
    return None if difference is None else max(0.0, value + difference)


def look_ahead(trend: Score, season: Score, promise: Promise, mean: float) -> tuple[Outlook | None, str]:
    """The better method's forecast while it beats the last value; otherwise why there is none."""
    offers = [
        (skill, score, forecast)
        for score, forecast in ((trend, promise.trend), (season, promise.season))
        if forecast is not None and (skill := score.skill_ratio) is not None
    ]
    if not offers and max(trend.matured, season.matured) >= MATURED_MIN:
        return None, "demand has not changed yet"
    if not offers:
        return None, f"{max(trend.matured, season.matured)} of {MATURED_MIN} forecasts have come due"
    skill, score, forecast = min(offers, key=lambda offer: offer[0])
    if skill >= 1.0:
        return None, f"{score.method} has {skill:.2f} times the error of guessing no change"
    return (
        Outlook(
            method=score.method,
            now_tokens_per_s=promise.naive,
            p50_tokens_per_s=quantile_ratio(score.residuals, 0.5, forecast, mean),
            p90_tokens_per_s=quantile_ratio(score.residuals, 0.9, forecast, mean),
            skill_ratio=skill,
        ),
        f"{score.method} has {skill:.2f} times the error of guessing no change",
    )


def backfill(
    history: tuple[tuple[float, float], ...], horizon_s: float, now_s: float
) -> tuple[ForecastRecord, OpenBin]:
    """A record as if this history had been watched. Points coarser than the bins teach the daily profile only."""
    bin_s = bin_length_s(horizon_s)
    points = sorted(point for point in history if now_s - 2 * DAY_S <= point[0] <= now_s)
    record = ForecastRecord(bin_s=bin_s, is_backfilled=True)
    if len(points) < 2:
        return record, open_bin(bin_s, now_s)
    step_s = (points[-1][0] - points[0][0]) / (len(points) - 1)
    if step_s > 2 * bin_s:
        profile = record.profile
        for at_s, demand in points:
            profile = with_demand(profile, demand, at_s, step_s)
        return replace(record, profile=profile), open_bin(bin_s, now_s)
    bin_ = open_bin(bin_s, points[0][0])
    for at_s, demand in points:
        record, bin_ = feed(record, bin_, demand, horizon_s, at_s)
    return record, bin_
