"""Five coefficients of an iteration's duration from the latencies of real requests, by simulating them.

t = a + b·P + c·B + d·K + e·A (`simulations.replica.config`). Every run is replayed at its real arrivals through the
compiled engine, so that queueing, chunked prefill and preemption are part of the model and not of the error.
Minimised is the mean |ln(model ÷ real)| of the latencies of the requests fitted on, by the simplex method of Nelder
and Mead (1965): the loss has kinks and jumps, where a request changes its batch, and no useful gradient.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from simulations.compiled.fleet import replay_compiled, requests_of
from simulations.replica import PROFILES, EngineConfig, StepTimes

from .runs import Floats, Mask, MeasuredRun

COEFFICIENTS = ("base_s", "prefill_token_s", "decode_sequence_s", "kv_token_s", "attention_pair_s")
FITTED_SHARE = 1 / 3
TTFT_WEIGHT = 0.3  # of an end-to-end error; a first token that comes at once is mostly the noise of the host
# A published GPU may be this much faster or slower than what is measured; a CPU is some 10 times slower.
SCALES = tuple(2.0**power for power in range(-4, 6))
STARTS = 4  # the best (profile, scale) pairs; more found nothing better
EVALUATIONS_MAX = 1500  # of one simplex: it has settled by then
RESTARTS_MAX = 10  # a simplex that shrank in a corner leaves it when begun anew
GAIN_MIN_RATIO = 0.005  # of a restart, to be worth another
OVERHEAD_START_S = 0.01  # HTTP, tokenizer and process hops of an idle server
RELATIVE_STEP = 0.05  # of a coefficient, to see what it moves; smaller ones see single requests change batch
# Beyond this the data say nothing about a coefficient: plus or minus 50 % at one standard deviation.
TELLING_SPREAD_RATIO = 0.5
SCATTER_MIN_RATIO = 0.01  # no real server repeats itself closer than that, however well one run is met
TINY_S = 1e-12  # a coefficient of zero, in logarithms
# Holds what the data cannot tell near the proportions of a published GPU: a factor of e costs as 0.01 % of error.
PRIOR_WEIGHT = 1e-4

Told = Callable[[float], None]  # loss so far


@dataclass(frozen=True, slots=True, kw_only=True)
class Latencies:
    """Of every request of a run, in its order."""

    ttft_s: Floats
    e2e_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The coefficients, and what the data can say of them."""

    times: StepTimes
    request_overhead_s: float  # between client and engine; 0 where the times are the engine's own
    loss: float  # mean |ln(model ÷ real)| on what was fitted
    fitted_requests: int
    spread_ratios: dict[str, float]  # one standard deviation ÷ value, by coefficient

    @property
    def untold(self) -> tuple[str, ...]:
        """Coefficients that these data cannot tell."""
        return tuple(name for name, spread in self.spread_ratios.items() if not spread <= TELLING_SPREAD_RATIO)


def fitted_part(run: MeasuredRun, share: float = FITTED_SHARE) -> Mask:
    """The requests that came first; the rest is held out."""
    return np.arange(len(run)) < max(1, int(len(run) * share))


def replay(run: MeasuredRun, config: EngineConfig, times: StepTimes, *, request_overhead_s: float = 0.0) -> Latencies:
    """What the model says of the same requests at the same arrivals."""
    records = requests_of(run.arrived_at_s + request_overhead_s, run.prompt_tokens, run.output_tokens)
    done = replay_compiled(records, 1, config, times).requests
    return Latencies(ttft_s=done["first_token_at_s"] - run.arrived_at_s, e2e_s=done["finished_at_s"] - run.arrived_at_s)


def fit(
    runs: Sequence[MeasuredRun], config: EngineConfig, tell: Told = lambda loss: None, *, share: float = FITTED_SHARE
) -> Fit:
    """Coefficients that make the first `share` of every run's requests take what they took."""
    problem = _Problem(tuple(runs), tuple(fitted_part(run, share) for run in runs), config)
    best_loss = np.inf
    for start in problem.starts():
        logs, loss = _settle(problem, start)
        if loss < best_loss:
            best, best_loss = logs, loss
            tell(best_loss)
    return Fit(
        times=problem.times(best),
        request_overhead_s=problem.overhead_s(best),
        loss=problem.loss(best),
        fitted_requests=int(sum(mask.sum() for mask in problem.fitted)),
        spread_ratios=problem.spreads(best),
    )


def _settle(problem: "_Problem", logs: Floats) -> tuple[Floats, float]:
    """Simplex after simplex until a fresh one gains nothing."""
    from scipy.optimize import minimize  # half a second, which only a calibration is to wait for

    anchor, loss = logs, np.inf

    def penalised(moved: Floats) -> float:
        away = (moved - anchor)[: len(COEFFICIENTS)]
        return problem.loss(moved) + PRIOR_WEIGHT * float((away**2).mean())

    for _ in range(RESTARTS_MAX):
        found = minimize(
            penalised, logs, method="Nelder-Mead", options={"maxfev": EVALUATIONS_MAX, "xatol": 1e-3, "fatol": 1e-6}
        )
        gained = found.fun < loss * (1.0 - GAIN_MIN_RATIO)
        logs, loss = found.x, float(found.fun)
        if not gained:
            break
    return logs, loss


@dataclass(frozen=True, slots=True)
class _Problem:
    """The loss over logarithms of the coefficients: all are positive, and their sizes are six orders apart."""

    runs: tuple[MeasuredRun, ...]
    fitted: tuple[Mask, ...]
    config: EngineConfig

    @property
    def has_overhead(self) -> bool:
        return any(run.seen_by_client for run in self.runs)

    def times(self, logs: Floats) -> StepTimes:
        return StepTimes(**dict(zip(COEFFICIENTS, np.exp(logs[: len(COEFFICIENTS)]).tolist(), strict=True)))

    def overhead_s(self, logs: Floats) -> float:
        return float(np.exp(logs[-1])) if self.has_overhead else 0.0

    def residuals(self, logs: Floats) -> Floats:
        """Weighted ln(model ÷ real) of the first tokens, then of the ends, run after run."""
        parts = []
        for run, mask in zip(self.runs, self.fitted, strict=True):
            overhead_s = self.overhead_s(logs) if run.seen_by_client else 0.0
            model = replay(run, self.config, self.times(logs), request_overhead_s=overhead_s)
            parts.append(TTFT_WEIGHT * np.log(model.ttft_s[mask] / run.ttft_s[mask]))
            parts.append(np.log(model.e2e_s[mask] / run.e2e_s[mask]))
        return np.concatenate(parts)

    def loss(self, logs: Floats) -> float:
        return float(np.abs(self.residuals(logs)).mean())

    def starts(self) -> list[Floats]:
        """The published machines, faster and slower, that come nearest."""
        candidates = [self._start(times, scale) for times in PROFILES.values() for scale in SCALES]
        return sorted(candidates, key=self.loss)[:STARTS]

    def _start(self, times: StepTimes, scale: float) -> Floats:
        values = [max(TINY_S, getattr(times, name) * scale) for name in COEFFICIENTS]
        logs: Floats = np.log(np.array([*values, OVERHEAD_START_S] if self.has_overhead else values))
        return logs

    def spreads(self, logs: Floats) -> dict[str, float]:
        """Standard deviations of the logarithms, linearised: s²·(JᵀJ)⁻¹; infinite where nothing moves."""
        base = self.residuals(logs)
        columns = [self._moved(logs, index, base) for index in range(len(logs))]
        jacobian = np.stack(columns, axis=1)
        variance = max(SCATTER_MIN_RATIO**2, float((base**2).sum()) / max(1, len(base) - len(logs)))
        try:
            spreads = np.sqrt(variance * np.diag(np.linalg.inv(jacobian.T @ jacobian)))
        except np.linalg.LinAlgError:
            return dict.fromkeys(COEFFICIENTS, np.inf)
        return {name: float(spread) for name, spread in zip(COEFFICIENTS, spreads, strict=False)}

    def _moved(self, logs: Floats, index: int, base: Floats) -> Floats:
        moved = logs.copy()
        moved[index] += RELATIVE_STEP
        return (self.residuals(moved) - base) / RELATIVE_STEP
