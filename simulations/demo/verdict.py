"""The verdict: what the users of the service got, and what it cost beside fleets of a fixed size."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simulations.cluster.loadgen import Outcome, RequestRecord, lost_by_reason
from simulations.demo.caches import WarmStart
from simulations.demo.setting import TTFT_OBJECTIVE_S, Setting
from simulations.demo.static_fleet import StaticFleets
from simulations.demo.watching import DecisionSeen
from simulations.demo.workload import Traffic

ATTAINMENT_BAR = 0.95
COST_BAR = 0.70  # of the static peak fleet's replica-seconds
WARM_BAR = 0.5  # of a cold start's seconds; what is left is image, process and readiness


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What build/demo/results.json holds. Times in seconds; `decisions` are those that changed the number."""

    requests: int
    lost: int
    lost_by_reason: Mapping[str, int]
    slo_attainment: float
    ttft_objective_s: float
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    replica_seconds: float
    static_replica_seconds: float
    static_replicas: int
    static_formula: str
    smallest_static_replicas: int | None
    smallest_static_replica_seconds: float | None
    capacity_tokens_per_s: float
    duration_s: float  # until the last answer ended
    decisions: Sequence[DecisionSeen]
    seed: int
    seconds: float
    trace: str
    recorded_requests: int
    policy: Mapping[str, object]
    warm_start: WarmStart
    retried_requests: int
    sender_lag_p95_s: float  # how late the client itself was: a large one makes the machine, not the fleet, slow

    @property
    def cost_ratio(self) -> float:
        """Replica-seconds as a share of the static peak fleet's."""
        return self.replica_seconds / self.static_replica_seconds if self.static_replica_seconds else 0.0

    @property
    def shortfalls(self) -> list[str]:
        """What is not as it should be; empty when the demo succeeded."""
        if not self.requests:
            return ["nothing was sent"]
        cost, cache = self.cost_ratio, self.warm_start
        checks = [
            (self.lost == 0, f"{self.lost} requests lost: {dict(self.lost_by_reason)}"),
            (self.slo_attainment >= ATTAINMENT_BAR, f"attainment {self.slo_attainment:.1%} < {ATTAINMENT_BAR:.0%}"),
            (cost < COST_BAR, f"{cost:.0%} of the static peak fleet's replica-seconds, not below {COST_BAR:.0%}"),
            (
                cache.warm_s <= WARM_BAR * cache.cold_s,
                f"a warm start took {cache.warm_s:.1f} s of a cold one's {cache.cold_s:.1f} s",
            ),
        ]
        return [complaint for holds, complaint in checks if not holds]

    def write(self, path: Path) -> None:
        """As JSON, with whether it succeeded."""
        body = asdict(self) | {"shortfalls": self.shortfalls}
        path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the verdict is drawn from."""

    setting: Setting
    traffic: Traffic
    records: Sequence[RequestRecord]
    replica_seconds: float
    decisions: Sequence[DecisionSeen]
    retried_requests: int
    policy: Mapping[str, object]
    warm_start: WarmStart


def judge(run: Run, fleets: StaticFleets) -> Verdict:
    """Draw it."""
    records = run.records
    lost = lost_by_reason(records)
    met = sum(r.outcome is Outcome.SERVED and (r.ttft_s or 0.0) <= TTFT_OBJECTIVE_S for r in records)
    ttfts = [ttft for r in records if (ttft := r.ttft_s) is not None]
    duration_s = max((r.end_s for r in records), default=0.0)
    capacity = run.traffic.capacity_tokens_per_s
    return Verdict(
        requests=len(records),
        lost=lost.total(),
        lost_by_reason=dict(lost),
        slo_attainment=met / max(1, len(records)),
        ttft_objective_s=TTFT_OBJECTIVE_S,
        ttft_p50_s=percentile(ttfts, 0.50),
        ttft_p95_s=percentile(ttfts, 0.95),
        replica_seconds=run.replica_seconds,
        static_replica_seconds=fleets.peak_replicas * duration_s,
        static_replicas=fleets.peak_replicas,
        static_formula=(
            f"⌈{fleets.peak_tokens_per_s:.0f} tokens/s in the busiest {TTFT_OBJECTIVE_S:g} s "
            f"÷ {capacity:.0f} tokens/s per replica⌉ = {fleets.peak_replicas}"
        ),
        smallest_static_replicas=fleets.smallest.replicas if fleets.smallest else None,
        smallest_static_replica_seconds=fleets.smallest.replicas * duration_s if fleets.smallest else None,
        capacity_tokens_per_s=capacity,
        duration_s=duration_s,
        decisions=run.decisions,
        seed=run.setting.seed,
        seconds=run.setting.seconds,
        trace=run.traffic.source,
        recorded_requests=run.traffic.recorded,
        policy=run.policy,
        warm_start=run.warm_start,
        retried_requests=run.retried_requests,
        sender_lag_p95_s=percentile([r.sent_s - r.scheduled_s for r in records], 0.95) or 0.0,
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def as_text(verdict: Verdict) -> str:
    """For people."""
    lines = [
        f"requests         {verdict.requests - verdict.lost} served, {verdict.lost} lost",
        f"TTFT             p50 {_seconds(verdict.ttft_p50_s)}, p95 {_seconds(verdict.ttft_p95_s)}; within "
        f"{verdict.ttft_objective_s:g} s: {verdict.slo_attainment:.1%} (bar {ATTAINMENT_BAR:.0%})",
        f"replica-seconds  {verdict.replica_seconds:.0f}, {verdict.cost_ratio:.0%} of a static fleet for the peak "
        f"(bar: below {COST_BAR:.0%})",
        f"  static peak    {verdict.static_replica_seconds:.0f}: {verdict.static_formula}",
        _hindsight(verdict),
        f"decisions        {len(verdict.decisions)} changed the number of replicas",
        verdict.warm_start.text(),
    ]
    short = verdict.shortfalls
    ending = "Verdict: it falls short: " + "; ".join(short) if short else "Verdict: it holds."
    return "\n".join([*lines, "", ending])


def _hindsight(verdict: Verdict) -> str:
    if not verdict.smallest_static_replica_seconds:
        return "  in hindsight   no static fleet reaches the same"
    share = verdict.replica_seconds / verdict.smallest_static_replica_seconds
    return (
        f"  in hindsight   {verdict.smallest_static_replica_seconds:.0f}: {verdict.smallest_static_replicas} replicas, "
        f"the fewest that reach {ATTAINMENT_BAR:.0%} when all traffic is known beforehand; we took {share:.0%} of that"
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
