"""How long a start-up takes, learned per tier and node class from replicas watched from their beginning."""

import functools
from dataclasses import dataclass

from autoscaler.policy.types import Landing, LeadTime, PodPhase, PodSeen, Tier

# The newest start-ups kept per tier and node class: enough for a P95 of which one sample is not the master.
KEPT_STARTS = 32
# Each older start-up weighs this much of the next newer one: half the weight lies in the last 14.
DECAY_RATIO = 0.95
# A pod first seen later than this after its creation may have been Ready before (a failed probe): not a start-up.
SEEN_EARLY_S = 60.0
# Kinds of start-up and pods being watched; more are not learned from.
KINDS_MAX = 32
WATCHED_MAX = 1024
# Start-up times are about lognormal with a variation of 0.4: P80 and P95 over P50.
PRIOR_P80_RATIO = 1.38
PRIOR_P95_RATIO = 1.88
# The shape of the prior counts as much as this many measured start-ups.
PRIOR_STARTS = 4
# Start-ups are measured no finer: kubelets look for readiness every 10 s (periodSeconds of a probe that names none).
PROBE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """The start-ups of one kind, oldest first, and what they say."""

    durations_s: tuple[float, ...]
    learned: LeadTime


@functools.cache
def prior(lead_time_prior_s: float) -> LeadTime:
    """What to expect before anything was measured."""
    return LeadTime(
        tier=Tier.COLD,
        node_class="",
        p50_s=lead_time_prior_s,
        p80_s=lead_time_prior_s * PRIOR_P80_RATIO,
        p95_s=lead_time_prior_s * PRIOR_P95_RATIO,
        starts=0,
    )


def watch_starts(watched: tuple[str, ...], pods: tuple[PodSeen, ...], now_s: float) -> tuple[str, ...]:
    """The pods on their way up whose whole start-up we see: those are learned from."""
    starting = [pod for pod in pods if pod.phase is PodPhase.STARTING]
    if not starting:
        return ()
    names = (pod.name for pod in starting if pod.name in watched or 0 <= now_s - pod.created_at_s <= SEEN_EARLY_S)
    return tuple(names)[:WATCHED_MAX]


def learn_starts(
    records: tuple[StartRecord, ...], watched: tuple[str, ...], pods: tuple[PodSeen, ...]
) -> tuple[StartRecord, ...]:
    """Add the start-ups that finished since the last look; the kind learned last comes last."""
    if not watched:
        return records
    for pod in pods:
        if pod.phase is PodPhase.READY and pod.ready_at_s is not None and pod.name in watched:
            duration_s = pod.ready_at_s - pod.created_at_s
            if duration_s > 0:
                records = _with_start(records, pod, duration_s)
    return records


def _with_start(records: tuple[StartRecord, ...], pod: PodSeen, duration_s: float) -> tuple[StartRecord, ...]:
    others: list[StartRecord] = []
    durations_s: tuple[float, ...] = (duration_s,)
    for record in records:
        if record.learned.tier is pod.tier and record.learned.node_class == pod.node_class:
            durations_s = (*record.durations_s[1 - KEPT_STARTS :], duration_s)
        else:
            others.append(record)
    return (*others[1 - KINDS_MAX :], start_record(pod.tier, pod.node_class, durations_s))


def start_record(tier: Tier, node_class: str, durations_s: tuple[float, ...]) -> StartRecord:
    """A record with its quantiles; few start-ups keep the spread of the prior."""
    p50_s = _quantile(durations_s, 0.50)
    doubt = PRIOR_STARTS / (PRIOR_STARTS + len(durations_s))
    learned = LeadTime(
        tier=tier,
        node_class=node_class,
        p50_s=p50_s,
        p80_s=max(_quantile(durations_s, 0.80), p50_s * (1 + (PRIOR_P80_RATIO - 1) * doubt)),
        p95_s=max(_quantile(durations_s, 0.95), p50_s * (1 + (PRIOR_P95_RATIO - 1) * doubt)),
        starts=len(durations_s),
    )
    return StartRecord(durations_s=durations_s, learned=learned)


def _quantile(durations_s: tuple[float, ...], q: float) -> float:
    newest = len(durations_s) - 1
    weighted = sorted((duration_s, DECAY_RATIO ** (newest - age)) for age, duration_s in enumerate(durations_s))
    wanted, seen, index = q * sum(weight for _, weight in weighted), weighted[0][1], 0
    while seen < wanted and index < newest:
        index += 1
        seen += weighted[index][1]
    return weighted[index][0]


def lead_time_of(pod: PodSeen, records: tuple[StartRecord, ...], prior_s: float) -> LeadTime:
    """What is known for this pod's kind of start-up; otherwise the prior."""
    for record in records:
        if record.learned.tier is pod.tier and record.learned.node_class == pod.node_class:
            return record.learned
    return prior(prior_s)


def late_after_s(lead: LeadTime) -> float:
    """The age at which a replica that is still on its way is not counted on: beyond the P95 and what probes add.

    Nothing shorter: quick start-ups, of which one took a second, would be ordered twice when one takes three.
    """
    return max(lead.p95_s, lead.p50_s + PROBE_S)


def typical_lead_time(records: tuple[StartRecord, ...], prior_s: float, landing: Landing | None = None) -> LeadTime:
    """What the next start-up is expected to take: of the kind where it would land, else of the kind seen last."""
    expected = records[-1].learned if records else prior(prior_s)
    if landing is None or not records:
        return expected
    alike = [record.learned for record in records if record.learned.tier is landing.tier]
    if alike:
        return next((lead for lead in reversed(alike) if lead.node_class == landing.node_class), alike[-1])
    # Weights that must come first were not measured yet: surely no faster than those that were there.
    return max(expected, prior(prior_s), key=_p80_s) if landing.tier is Tier.COLD else expected


def _p80_s(lead: LeadTime) -> float:
    return lead.p80_s
