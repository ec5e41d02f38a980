"""How wrong forecasts were: a slowly forgetting histogram of log ratios.

Not scaled by volatility: scaled errors collapse in calm periods, just before the jump.
"""

import functools
import math

# ln(actual ÷ forecast) from -3 to 3: a factor of 20 either way.
BINS = 60
EDGE = 3.0
WIDTH = 2 * EDGE / BINS
# Half as much weight after two days of minutes.
DECAY_RATIO = 0.5 ** (1 / 2880)
# Before anything was measured: two observations' worth of a 25 % error.
PRIOR_WEIGHT = 2.0
PRIOR_SIGMA = 0.25
# This share of the mean is added to both: without it a ratio to (nearly) nothing diverges.
OFFSET_RATIO = 0.05


def residual(actual: float, forecast: float, mean: float) -> float:
    """ln of actual over forecast."""
    offset = _offset(mean)
    return math.log((actual + offset) / (forecast + offset))


def _offset(mean: float) -> float:
    return max(OFFSET_RATIO * mean, 1e-6)


def with_residual(residuals: tuple[float, ...], value: float) -> tuple[float, ...]:
    """Count one more; what was counted fades."""
    counts = [count * DECAY_RATIO for count in residuals or prior_residuals()]
    counts[min(max(int((value + EDGE) / WIDTH), 0), BINS - 1)] += 1.0
    return tuple(counts)


@functools.cache
def prior_residuals() -> tuple[float, ...]:
    """A bell around no error."""
    middles = [-EDGE + (index + 0.5) * WIDTH for index in range(BINS)]
    bell = [math.exp(-0.5 * (middle / PRIOR_SIGMA) ** 2) for middle in middles]
    return tuple(PRIOR_WEIGHT * height / sum(bell) for height in bell)


def quantile_ratio(residuals: tuple[float, ...], q: float, forecast: float, mean: float) -> float:
    """The q-quantile of the demand, given its forecast."""
    counts = residuals or prior_residuals()
    wanted, seen, index = q * sum(counts), 0.0, 0
    while index < BINS - 1 and seen + counts[index] < wanted:
        seen += counts[index]
        index += 1
    share = (wanted - seen) / counts[index] if counts[index] > 0 else 0.0
    offset = _offset(mean)
    return max(0.0, (forecast + offset) * math.exp(-EDGE + (index + min(share, 1.0)) * WIDTH) - offset)
