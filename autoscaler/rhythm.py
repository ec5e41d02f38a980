"""How often pods are read, how far rates look back, and which sample is worth a pass at once.

Pure, and shared with the simulator: what wakes the controller wakes a simulated one.
"""

from autoscaler.policy.spec import LensTargets
from autoscaler.settings import MetricsEndpoint
from metrics.sample import EngineSample

# Rates look back over so many scrapes under load: half a minute shows a ramp and holds enough requests for a quantile.
RATE_SCRAPES = 15
RATE_SPAN_MIN_S, RATE_SPAN_MAX_S = 30.0, 60.0
# Above its target, each further step of KV usage is news; below it, none is.
KV_STEP = 0.05
# Unless the policy names a period, each service under load is heard equally often, by so many pods per period: an edge
# on one has the others read at once, so that many pods are seen no later than few, at the same cost.
PODS_PER_PERIOD = 5
# A lone pod is read no more often: its server renders 50 kB each time.
PERIOD_MIN_S = 0.5
# However many pods there are, each is read so often within the age at which its sample counts as none.
READS_PER_MAX_AGE = 3

# Between two passes while nothing happens: a few scrapes (a lone pod's are closer than its service needs passes, since
# edges wake it), at most the HPA's period.
SCRAPES_PER_PASS = 2.5
PASS_PERIOD_MIN_S, PASS_PERIOD_MAX_S = 1.0, 15.0
# A service whose load keeps rising has all its pods read at most so often, in periods under load; an edge waits for
# that, so never for long, however seldom its pods are read else.
ROUND_SPACING_PERIODS, ROUND_SPACING_MAX_S = 0.5, 1.0
# Two passes over one service start at least this far apart, however many events come: an HPA looks every 15 s.
SPACING_S = 0.5

Level = tuple[int, int, int, int, int]
# Before its first word a pod is nothing but there: requests that it has then may have been another's before.
UNHEARD: Level = (0, 0, 0, 0, 1)


def scrape_period_s(endpoint: MetricsEndpoint, pods: int, *, is_busy: bool, max_age_s: float) -> float:
    """Between two reads of one pod of a service that is decided on."""
    if not is_busy:
        return endpoint.idle_period_s
    if endpoint.is_period_fixed:
        return endpoint.period_s
    fair_s = endpoint.period_s * pods / PODS_PER_PERIOD
    longest_s = min(endpoint.idle_period_s, max_age_s / READS_PER_MAX_AGE)
    return max(min(PERIOD_MIN_S, endpoint.period_s), min(fair_s, longest_s))


def pass_period_s(endpoint: MetricsEndpoint, scrape_period_s: float) -> float:
    """Between two passes over a service while nothing happens."""
    wanted_s = SCRAPES_PER_PASS * max(endpoint.period_s, scrape_period_s)
    return min(max(wanted_s, PASS_PERIOD_MIN_S), PASS_PERIOD_MAX_S)


def round_spacing_s(endpoint: MetricsEndpoint) -> float:
    """Between two times that an edge on one pod has all pods of its service read at once."""
    return min(ROUND_SPACING_PERIODS * endpoint.period_s, ROUND_SPACING_MAX_S)


def rate_span_s(period_s: float) -> float:
    """How far rates look back for pods that are read at this period under load."""
    return min(max(RATE_SCRAPES * period_s, RATE_SPAN_MIN_S), RATE_SPAN_MAX_S)


def level_of(sample: EngineSample, targets: LensTargets) -> Level:
    """Steps that a sample has reached on each lens; a higher step than before is worth a pass."""
    return level(
        sample.running_requests or 0.0,
        sample.waiting_requests or 0.0,
        sample.kv_cache_usage_ratio or 0.0,
        sample.is_awake is True,
        edges(targets),
    )


def edges(targets: LensTargets) -> tuple[float, float, float]:
    """Where each lens's first step is: waiting requests, KV usage, requests in all. Infinite: the lens is off."""
    found = (targets.queue_requests, targets.kv_cache_usage_ratio, targets.running_requests)
    queue, kv_cache, concurrency = (float("inf") if target is None else target for target in found)
    return queue, kv_cache, concurrency


def level(running: float, waiting: float, kv_usage: float, is_awake: bool, firsts: tuple[float, float, float]) -> Level:
    """`level_of` in plain numbers, which the simulator compiles. 0 up to a lens's edge, then one more per width."""

    def step(value: float, first: float, width: float) -> int:
        return 1 + int((value - first) / width) if value > first else 0  # 0 where there is no edge (NaN)

    queue, kv_cache, concurrency = firsts
    held = running + waiting
    return (
        step(waiting, queue, queue or 1.0),
        step(kv_usage, kv_cache, KV_STEP),
        step(held, concurrency, max(1.0, concurrency / 10)),
        int(held > 0),
        int(is_awake),
    )


def is_news(new: Level, old: Level) -> bool:
    """Whether any lens is a step higher: what falls can wait for the regular pass."""
    return new[0] > old[0] or new[1] > old[1] or new[2] > old[2] or new[3] > old[3] or new[4] > old[4]
