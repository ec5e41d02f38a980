"""What the replicas are worth now: serving, on their way, not coming, blind."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from autoscaler.policy.lead_time import StartRecord, late_after_s, lead_time_of, typical_lead_time
from autoscaler.policy.signals import says_nothing, tokens_per_s, waiting_requests
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.types import Observation, PodPhase, PodSeen, Supply
from metrics.quick import quick
from metrics.sample import PodSignals


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The replicas, sorted once; every lens and limit reads from here."""

    supply: Supply
    coming: int  # serving now or on time, never more than were asked for
    serving: int  # ready and awake
    placed: int  # on a node, whatever they do there
    present: int  # pods that exist and are not leaving
    stuck: int  # starting for longer than P95: another one may start better
    sighted: tuple[PodSeen, ...]  # serving, with a fresh sample
    signals: tuple[PodSignals, ...]  # theirs
    waiting_requests: tuple[float | None, ...]  # of each of them
    tokens_per_s: tuple[float | None, ...]  # of each of them
    surplus_first: tuple[PodSeen, ...]  # those that serve nothing: overdue first, then the youngest
    newest_sample_s: float
    changes_at_s: float  # when time alone makes a sample stale or a start-up overdue


def take_stock(
    seen: Observation, policy: PolicySpec, starts: tuple[StartRecord, ...], requested_at_s: float, *, now_s: float
) -> Fleet:
    """Sort the replicas by what they are worth. `requested_at_s`: when pods were asked for that do not exist yet."""
    seers = _read_samples(seen.pods, policy.targets.max_age_s, now_s)
    signals = seers.signals
    rest = _Rest.of(seers.others, policy, starts, now_s)
    serving = len(signals) + seers.blind
    present = serving + rest.asleep + rest.starting + len(rest.overdue)
    missing = max(0, seen.replicas - present)
    lead = typical_lead_time(starts, policy.lead_time_prior_s, seen.landing)
    late_at_s = requested_at_s + late_after_s(lead) if missing else math.inf
    late = missing if late_at_s <= now_s else 0
    starting = rest.starting + missing - late
    return Fleet(
        supply=Supply(
            ready=serving,
            starting=starting,
            overdue=len(rest.overdue) + late,
            terminating=rest.terminating,
            blind=seers.blind,
            asleep=rest.asleep,
        ),
        coming=min(seen.replicas, serving + rest.asleep + starting),
        serving=serving,
        placed=serving + rest.asleep + rest.starting + rest.stuck,
        present=present,
        stuck=rest.stuck,
        sighted=tuple(seers.sighted),
        signals=tuple(signals),
        waiting_requests=tuple([waiting_requests(sample) for sample in signals]),
        tokens_per_s=tuple([tokens_per_s(sample) for sample in signals]),
        surplus_first=rest.surplus_first,
        newest_sample_s=max([sample.observed_at_s for sample in signals], default=-math.inf),
        changes_at_s=min(seers.changes_at_s, rest.overdue_at_s, math.inf if late else late_at_s),
    )


class _Seers(NamedTuple):
    """The ready pods by what their samples are worth, and all other pods."""

    sighted: list[PodSeen]
    signals: list[PodSignals]
    others: list[PodSeen]
    blind: int
    changes_at_s: float  # when a sample goes stale, or stops to come from the future


def _read_samples(pods: tuple[PodSeen, ...], max_age_s: float, now_s: float) -> _Seers:
    sighted: list[PodSeen] = []
    signals: list[PodSignals] = []
    others: list[PodSeen] = []
    blind, changes_at_s = 0, math.inf
    for pod in pods:
        sample = pod.signals
        if pod.phase is not PodPhase.READY:
            others.append(pod)
        elif sample is None or not -max_age_s <= now_s - sample.observed_at_s <= max_age_s:
            blind += 1
            changes_at_s = min(changes_at_s, _counts_at_s(sample, max_age_s, now_s))
        elif sample.is_awake is False:
            others.append(pod)
        elif says_nothing(sample):
            blind += 1
        else:
            sighted.append(pod)
            signals.append(sample)
    if signals:
        changes_at_s = min(changes_at_s, min([sample.observed_at_s for sample in signals]) + max_age_s)
    return _Seers(sighted, signals, others, blind, changes_at_s)


def _counts_at_s(sample: PodSignals | None, max_age_s: float, now_s: float) -> float:
    """When a sample that seems to come from the future will be believed; never, for any other."""
    return math.inf if sample is None or sample.observed_at_s <= now_s else sample.observed_at_s - max_age_s


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    """The pods that do not serve."""

    starting: int = 0
    asleep: int = 0
    stuck: int = 0
    terminating: int = 0
    overdue: tuple[PodSeen, ...] = ()
    surplus_first: tuple[PodSeen, ...] = ()
    overdue_at_s: float = math.inf

    @classmethod
    def of(cls, pods: list[PodSeen], policy: PolicySpec, starts: tuple[StartRecord, ...], now_s: float) -> "_Rest":
        if not pods:
            return _NO_REST
        waiting: list[PodSeen] = []
        stuck: list[PodSeen] = []
        starting: list[PodSeen] = []
        asleep: list[PodSeen] = []
        overdue_at_s = math.inf
        for pod in pods:
            if pod.phase is PodPhase.READY:
                asleep.append(pod)
            elif pod.phase is PodPhase.STARTING:
                late_at_s = pod.created_at_s + late_after_s(lead_time_of(pod, starts, policy.lead_time_prior_s))
                (stuck if late_at_s <= now_s else starting).append(pod)
                if late_at_s > now_s:
                    overdue_at_s = min(overdue_at_s, late_at_s)
            elif pod.phase is not PodPhase.TERMINATING:
                waiting.append(pod)
        starting.sort(key=_youngest_first)
        overdue = (*waiting, *stuck)
        return cls(
            starting=len(starting),
            asleep=len(asleep),
            stuck=len(stuck),
            terminating=len(pods) - len(asleep) - len(starting) - len(overdue),
            overdue=overdue,
            surplus_first=(*overdue, *starting, *asleep),
            overdue_at_s=overdue_at_s,
        )


def _youngest_first(pod: PodSeen) -> tuple[float, str]:
    return (-pod.created_at_s, pod.name)


_NO_REST = _Rest()
