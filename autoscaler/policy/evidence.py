"""What the signals of one pass say: every lens, the demand, and the forecast's record brought up to now."""

from dataclasses import dataclass

from autoscaler.policy.capacity import capacity_at, usable_tokens_per_s
from autoscaler.policy.demand import Demand, read_demand
from autoscaler.policy.forecast import ForecastRecord, OpenBin, backfill, bin_length_s, feed, is_fit_for, open_bin
from autoscaler.policy.latency import read_itl, read_ttft
from autoscaler.policy.lead_time import typical_lead_time
from autoscaler.policy.lenses import (
    Reading,
    read_concurrency,
    read_kv_cache,
    read_queue,
    read_tokens,
    replicas_to_clear,
)
from autoscaler.policy.memory import Memory
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import Fleet
from autoscaler.policy.types import Capacity, Observation
from metrics.quick import quick

# A replica bears a quarter more than it has shown; whether it bears twice as much must be tried with patience.
LEAP_RATIO = 1.25


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that the lenses said, and what is held upstream."""

    readings: tuple[Reading, ...]
    upstream_waiting: float
    upstream_problem: str  # why what waits upstream is not known; empty: it is, or nobody is asked
    is_idle: bool  # explicit, fresh zeros everywhere
    is_learning: bool  # the policy lets capacity be learned
    demand_tokens_per_s: float | None  # blind replicas taken to be as busy as the others
    capacity: Capacity
    capacity_tokens_per_s: float | None  # what a replica may be asked to serve
    use: float  # replicas' worth of work by the largest lens of use, exact

    def is_leap(self, coming: int) -> bool:
        """Whether one replica fewer leaves each of the others with more than was ever seen to work."""
        if not self.is_learning or self.capacity_tokens_per_s is not None:
            return False
        most, demand = self.capacity.demonstrated_tokens_per_s, self.demand_tokens_per_s
        if most is None or demand is None:
            return True
        return demand > LEAP_RATIO * most * max(coming - 1, 1)

    def binding(self) -> Reading | None:
        """The lens that asks for most; the first of equals."""
        found: Reading | None = None
        for reading in self.readings:
            replicas = reading.lens.replicas
            if replicas is not None and (found is None or replicas > (found.lens.replicas or 0)):
                found = reading
        return found

    def silent_names(self) -> tuple[str, ...]:
        """Lenses that are on, but cannot be read."""
        return tuple([reading.lens.name for reading in self.readings if reading.is_silent])


def gather(seen: Observation, policy: PolicySpec, fleet: Fleet, memory: Memory, *, now_s: float) -> Evidence:
    """Read every lens that is on."""
    capacity = capacity_at(memory.capacity, fleet.newest_sample_s)
    capacity_tokens_per_s = usable_tokens_per_s(capacity, policy)
    waiting, problem = _upstream(seen, policy, now_s)
    demand = read_demand(fleet, waiting, memory.looks)
    readings = _read(fleet, policy, demand, capacity, waiting)
    return Evidence(
        readings=readings,
        upstream_waiting=waiting,
        upstream_problem=problem,
        is_idle=not problem and waiting <= 0 and _is_idle(fleet),
        is_learning=policy.targets.use_learned_capacity,
        demand_tokens_per_s=None if demand is None else demand.tokens_per_s * fleet.serving / demand.rated,
        capacity=capacity,
        capacity_tokens_per_s=capacity_tokens_per_s,
        use=max([reading.use for reading in readings if reading.is_use], default=0.0),
    )


def _read(
    fleet: Fleet, policy: PolicySpec, demand: Demand | None, capacity: Capacity, waiting: float
) -> tuple[Reading, ...]:
    targets, objectives = policy.targets, policy.objectives
    readings = []
    usable = usable_tokens_per_s(capacity, policy)
    shown = capacity.demonstrated_tokens_per_s if targets.use_learned_capacity else None
    clears = replicas_to_clear(demand, usable or shown)
    if targets.queue_requests is not None:
        readings.append(read_queue(fleet, policy, waiting, clears))
    if targets.kv_cache_usage_ratio is not None:
        readings.append(read_kv_cache(fleet, policy))
    if targets.running_requests is not None:
        readings.append(read_concurrency(fleet, policy, waiting))
    if targets.tokens_per_s is not None or targets.use_learned_capacity:
        readings.append(read_tokens(fleet, policy, demand, usable))
    if objectives.ttft_s is not None:
        readings.append(read_ttft(fleet, policy, objectives.ttft_s, clears))
    if objectives.itl_s is not None:
        readings.append(read_itl(fleet, policy, objectives.itl_s))
    return tuple(readings)


def _upstream(seen: Observation, policy: PolicySpec, now_s: float) -> tuple[float, str]:
    """Requests held before the service, and why that is not known: no source at all is nothing to know."""
    waiting, at_s = seen.upstream_waiting_requests, seen.upstream_observed_at_s
    if waiting is None:
        return 0.0, seen.upstream_problem
    if at_s is not None and abs(now_s - at_s) > policy.targets.max_age_s:
        return 0.0, seen.upstream_problem or "its last answer is too old"
    return max(0.0, waiting), ""


def _is_idle(fleet: Fleet) -> bool:
    """Every serving replica says: nothing runs, nothing waits, no token moved. Silence does not say so."""
    if fleet.serving == 0 or len(fleet.signals) < fleet.serving:
        return False
    return all(
        sample.running_requests == 0
        and sample.waiting_requests == 0
        and sample.generation_tokens_per_s == 0
        and (sample.prompt_tokens_per_s == 0 or sample.computed_prompt_tokens_per_s == 0)
        for sample in fleet.signals
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookout:
    """What the forecast goes by."""

    record: ForecastRecord
    open_bin: OpenBin
    horizon_s: float


def watch_demand(
    seen: Observation,
    policy: PolicySpec,
    memory: Memory,
    demand_tokens_per_s: float | None,
    *,
    now_s: float,
) -> Lookout | None:
    """The forecast's record with the demand of now; history is taken in once. None where forecasts are off."""
    if not policy.forecast.enabled:
        return None
    lead = typical_lead_time(memory.starts, policy.lead_time_prior_s, seen.landing)
    horizon_s = policy.forecast.horizon_s or lead.p80_s
    record, bin_ = memory.forecast, memory.open_bin
    if record is None or not is_fit_for(record, horizon_s):
        record, bin_ = ForecastRecord(bin_s=bin_length_s(horizon_s)), None
    if seen.history and not record.is_backfilled:
        record, bin_ = backfill(seen.history, horizon_s, now_s)
    record, bin_ = feed(record, bin_ or open_bin(record.bin_s, now_s), demand_tokens_per_s, horizon_s, now_s)
    return Lookout(record=record, open_bin=bin_, horizon_s=horizon_s)
