"""The next value of a short series: autoregression of low order, with or without one difference, chosen by AIC.

It stands for pmdarima's `auto_arima` in Dynamo's planner (which is no light dependency): the same family without
moving-average terms, fitted by least squares. Orders up to 3; fewer than five points, or constant ones, give the last.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ORDER_MAX = 3
POINTS_MIN = 5  # minimum_data_points of the planner
POINTS_MAX = 500  # a day of intervals of 180 s; older ones change nothing

Floats = NDArray[np.float64]


def next_value(past: Sequence[float]) -> float:
    """One step ahead, never negative."""
    series = np.asarray(past[-POINTS_MAX:], dtype=np.float64)
    if len(series) < POINTS_MIN or np.all(series == series[0]):
        return float(series[-1]) if len(series) else 0.0
    fits = [_fitted(series, differences, order) for differences in (0, 1) for order in range(ORDER_MAX + 1)]
    found = [fit for fit in fits if fit is not None]
    return max(0.0, min(found)[1]) if found else float(series[-1])


def _fitted(series: Floats, differences: int, order: int) -> tuple[float, float] | None:
    """(AIC, forecast); None where too few points are left to fit."""
    steps = np.diff(series, n=differences)
    rows = len(steps) - ORDER_MAX  # the same rows for every order, or AICs cannot be compared
    if rows <= order + 1:
        return None
    lags = [steps[ORDER_MAX - lag : len(steps) - lag] for lag in range(1, order + 1)]
    design = np.column_stack([np.ones(rows), *lags])
    coefficients, *_ = np.linalg.lstsq(design, steps[ORDER_MAX:], rcond=None)
    residual = float(np.mean((steps[ORDER_MAX:] - design @ coefficients) ** 2))
    newest = [1.0, *(steps[-lag] for lag in range(1, order + 1))]
    forecast = float(np.dot(coefficients, newest)) + (float(series[-1]) if differences else 0.0)
    aic = rows * math.log(max(residual, 1e-12)) + 2 * (order + 2)
    return aic, forecast
