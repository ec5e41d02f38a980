"""Four coefficients from a server's own counters, where no single request was recorded.

In a stretch of time in which a server never idled, its steps fill the time: with n steps, P prefill and G generated
tokens and K tokens in the KV cache on average, length = a·n + b·P + c·G + d·K·n. Over many stretches that is a linear
regression with coefficients ≥ 0 (Lawson and Hanson's NNLS). Attention within prefills (e) leaves no mark of its own in
these series and goes into b.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from simulations.replica import StepTimes

from .errors import CalibrationError
from .fit import FITTED_SHARE
from .runs import Floats

STRETCHES_MIN = 12  # four to fit on, one for each coefficient, the rest to judge by
COLUMNS = ("base_s", "prefill_token_s", "decode_sequence_s", "kv_token_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """What one replica did within `length_s`, during all of which it had a running request."""

    length_s: float
    steps: float
    prefill_tokens: float
    generated_tokens: float
    kv_tokens: float  # in the cache, on average

    @property
    def row(self) -> tuple[float, float, float, float]:
        """What each coefficient is multiplied by."""
        return (self.steps, self.prefill_tokens, self.generated_tokens, self.kv_tokens * self.steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesFit:
    """The coefficients, and how well they say the length of the stretches that were held out."""

    times: StepTimes
    stretches: int
    held_out_mean_ratio: float  # (model - real) ÷ real, over all of them
    held_out_each_ratio: float  # mean of |model - real| ÷ real

    @property
    def untold(self) -> tuple[str, ...]:
        """Coefficients that came out as zero: these series cannot tell them."""
        return tuple(name for name in COLUMNS if getattr(self.times, name) == 0.0)


def fit_stretches(stretches: Sequence[Stretch]) -> SeriesFit:
    """Fitted on every third stretch (load comes in tides, and each must be in the fit), judged by the rest."""
    if len(stretches) < STRETCHES_MIN:
        raise CalibrationError(
            f"{len(stretches)} stretches in which the server was busy throughout; at least {STRETCHES_MIN} are needed"
        )
    rows = np.array([stretch.row for stretch in stretches], dtype=np.float64)
    lengths_s = np.array([stretch.length_s for stretch in stretches])
    fitted = np.arange(len(rows)) % round(1 / FITTED_SHARE) == 0
    coefficients = _solve(rows[fitted], lengths_s[fitted])
    if coefficients[0] <= 0:
        raise CalibrationError("the series tell no time per step; do steps and tokens come from the same replica?")
    ratios = rows[~fitted] @ coefficients / lengths_s[~fitted] - 1.0
    return SeriesFit(
        times=StepTimes(**dict(zip(COLUMNS, coefficients.tolist(), strict=True))),
        stretches=len(stretches),
        held_out_mean_ratio=float(ratios.mean()),
        held_out_each_ratio=float(np.abs(ratios).mean()),
    )


def _solve(rows: Floats, lengths_s: Floats) -> Floats:
    """Columns scaled to their means first: their sizes are six orders apart."""
    from scipy.optimize import nnls  # half a second, which only a calibration is to wait for

    scale = rows.mean(axis=0)
    scale[scale == 0] = 1.0
    shares = rows / scale / lengths_s[:, np.newaxis]  # every stretch weighs the same
    solution: Floats = nnls(shares, np.ones(len(rows)))[0] / scale
    return solution
