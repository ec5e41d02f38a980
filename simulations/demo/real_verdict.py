"""The verdict on a run with real servers: nothing lost, up and down again, and the controller knew what it did."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autoscaler.policy.lead_time import start_record
from autoscaler.policy.types import Tier
from simulations.cluster.loadgen import RequestRecord, lost_by_reason
from simulations.demo.real_course import Course, PodLife
from simulations.demo.verdict import percentile
from simulations.demo.watching import DecisionSeen

USED_WITHIN_S = 5.0  # of Ready, for the metrics of a new replica
LEAD_TIME_ERROR_S = 2.0  # pods' times in the API are whole seconds, two of them


@dataclass(frozen=True, slots=True, kw_only=True)
class RealVerdict:
    """What results.json holds after `--engine vllm`. Times in seconds."""

    requests: int
    lost: int
    lost_by_reason: Mapping[str, int]
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    retried_requests: int
    drained_requests: int  # under way on a replica when it was told to go, and completed there
    replicas: Sequence[int]  # the numbers decided, in order
    decisions: Sequence[DecisionSeen]
    lens_wishes: Mapping[str, int]  # the most that each lens asked for
    starts_s: Sequence[float]  # pod created → Ready, as seen here, in order of Ready
    used_after_s: Sequence[float | None]  # Ready → its metrics in a decision
    drains_s: Sequence[float]  # told to go → gone
    lead_time_measured_p50_s: float | None
    lead_time_learned_p50_s: float | None
    lead_time_starts: int  # how many the controller learned from

    @property
    def shortfalls(self) -> list[str]:
        """What is not as it should be; empty when the run succeeded."""
        measured, learned = self.lead_time_measured_p50_s, self.lead_time_learned_p50_s
        knows = measured is not None and learned is not None and abs(measured - learned) <= LEAD_TIME_ERROR_S
        checks = [
            (self.requests > 0, "nothing was sent"),
            (self.lost == 0, f"{self.lost} requests lost: {dict(self.lost_by_reason)}"),
            (max(self.replicas, default=0) >= 3, f"never more than {max(self.replicas, default=0)} replicas"),
            (self.replicas[-1:] == [1], f"it did not come back to 1 replica: {list(self.replicas)}"),
            (
                all(used is not None and used <= USED_WITHIN_S for used in self.used_after_s),
                f"metrics of new replicas used after {self.used_after_s} s, bar {USED_WITHIN_S:g} s",
            ),
            (knows, f"lead time learned {learned} s, measured {measured} s"),
        ]
        return [complaint for holds, complaint in checks if not holds]

    def write(self, path: Path) -> None:
        """As JSON, with whether it succeeded."""
        body = asdict(self) | {"shortfalls": self.shortfalls}
        path.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def judge_real(
    course: Course,
    records: Sequence[RequestRecord],
    decisions: Sequence[DecisionSeen],
    *,
    retried_requests: int,
    drained_requests: int,
) -> RealVerdict:
    """Draw it."""
    lost = lost_by_reason(records)
    ttfts = [ttft for record in records if (ttft := record.ttft_s) is not None]
    started = sorted((life for life in course.lives.values() if life.ready_at_s is not None), key=_ready_at_s)
    starts_s = tuple(life.start_s for life in started if life.start_s is not None)
    learned = _learned(course.status)
    return RealVerdict(
        requests=len(records),
        lost=lost.total(),
        lost_by_reason=dict(lost),
        ttft_p50_s=percentile(ttfts, 0.50),
        ttft_p95_s=percentile(ttfts, 0.95),
        retried_requests=retried_requests,
        drained_requests=drained_requests,
        replicas=[decision.after for decision in decisions],
        decisions=decisions,
        lens_wishes=course.wishes,
        starts_s=starts_s,
        used_after_s=[life.used_after_s for life in started],
        drains_s=[life.drain_s for life in course.lives.values() if life.drain_s is not None],
        lead_time_measured_p50_s=_same_median(starts_s, int(learned.get("starts", 0))),
        lead_time_learned_p50_s=learned.get("p50Seconds"),
        lead_time_starts=int(learned.get("starts", 0)),
    )


def _ready_at_s(life: PodLife) -> float:
    return life.ready_at_s or 0.0


def _learned(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The kind of start-up that most was learned about."""
    return max(status.get("leadTimes") or [{}], key=lambda lead: lead.get("starts", 0))


def _same_median(starts_s: tuple[float, ...], count: int) -> float | None:
    """The controller's own quantile over what was seen here, of the same number of start-ups: the newest."""
    newest = starts_s[-count:] if count else ()
    return start_record(Tier.COLD, "", newest).learned.p50_s if newest else None


def as_text(verdict: RealVerdict) -> str:
    """For people."""
    course = " → ".join(map(str, [1, *verdict.replicas]))
    lines = [
        f"requests     {verdict.requests - verdict.lost} served, {verdict.lost} lost; {verdict.drained_requests} were "
        f"under way on a replica told to go, {verdict.retried_requests} were tried elsewhere",
        f"TTFT         p50 {_seconds(verdict.ttft_p50_s)}, p95 {_seconds(verdict.ttft_p95_s)}",
        f"replicas     {course}; the lenses asked for {dict(verdict.lens_wishes)}",
        f"starts       {_list(verdict.starts_s)}: the controller learned {_seconds(verdict.lead_time_learned_p50_s)} "
        f"from {verdict.lead_time_starts} of them, measured here {_seconds(verdict.lead_time_measured_p50_s)}",
        f"new metrics  used {_list(verdict.used_after_s)} after Ready (bar {USED_WITHIN_S:g} s)",
        f"drains       {_list(verdict.drains_s)} from SIGTERM to gone",
    ]
    short = verdict.shortfalls
    ending = "Verdict: it falls short: " + "; ".join(short) if short else "Verdict: it holds."
    return "\n".join([*lines, "", ending])


def _list(values: Sequence[float | None]) -> str:
    return ", ".join(map(_seconds, values)) or "none"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
