"""Curves as SVG that stretches to any width: shapes only, all words are HTML beside them.

A stretched drawing would stretch its letters, too, and on a phone nobody could read them.
"""

import math
from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

POINTS_MAX = 360  # a pixel each on a phone, two to three on a desk
HEIGHT = 100.0  # of every drawing's own units
TICKS_MAX = 6
NICE = (1, 2, 2.5, 5, 10)


def thinned(values: Floats, points: int = POINTS_MAX) -> Floats:
    """Means of as many equal parts; shorter series as they are."""
    if len(values) <= points:
        return values.astype(np.float64)
    edges = np.linspace(0, len(values), points + 1).astype(int)
    sums: Floats = np.add.reduceat(values.astype(np.float64), edges[:-1])
    means: Floats = sums / np.diff(edges)
    return means


def drawing(shapes: Sequence[str], points: int, label: str) -> str:
    """Shapes over as many points; `label` is what a screen reader says."""
    box = f"0 0 {max(1, points - 1)} {HEIGHT:g}"
    return (
        f'<svg viewBox="{box}" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">'
        + "".join(shapes)
        + "</svg>"
    )


def area(low: Floats, high: Floats, top: float, css: str) -> str:
    """The space between two curves."""
    there = _points(high, top)
    back = _points(low, top)[::-1]
    return f'<polygon class="{css}" points="{" ".join([*there, *back])}"/>'


def line(values: Floats, top: float, css: str) -> str:
    """A curve that moves in steps, as replica counts do."""
    points: list[str] = []
    for x, y in enumerate(_heights(values, top)):
        if points:
            points.append(f"{x},{points[-1].split(',')[1]}")
        points.append(f"{x},{y}")
    return f'<polyline class="{css}" points="{" ".join(points)}"/>'


def bars(values: Floats, top: float, css: str) -> str:
    """Thin columns; a value of nothing draws nothing."""
    parts = [f"M{x},{HEIGHT:g}V{y}" for x, y in enumerate(_heights(values, top)) if values[x] > 0]
    return f'<path class="{css}" d="{"".join(parts)}"/>'


def nice_top(highest: float) -> float:
    """A round number not below the highest value."""
    if highest <= 0:
        return 1.0
    size: float = 10.0 ** math.floor(math.log10(highest))
    return next(step * size for step in NICE if step * size >= highest)


def time_ticks(span_s: float) -> list[tuple[float, str]]:
    """(share of the span, words) of a handful of round times; the last names the unit."""
    unit_s, unit = _unit(span_s)
    step = nice_top(span_s / unit_s / TICKS_MAX)
    count = math.floor(span_s / unit_s / step + 1e-9)
    said = [f"{number * step:g}" for number in range(count)] + [f"{count * step:g} {unit}"]
    return [(number * step * unit_s / span_s, words) for number, words in enumerate(said)]


def _unit(span_s: float) -> tuple[float, str]:
    if span_s > 2 * 86_400:
        return 86_400.0, "d"
    return (3600.0, "h") if span_s > 2 * 3600 else (60.0, "min")


def _points(values: Floats, top: float) -> list[str]:
    return [f"{x},{y}" for x, y in enumerate(_heights(values, top))]


def _heights(values: Floats, top: float) -> list[str]:
    return [f"{HEIGHT * (1.0 - value / top):.4g}" for value in np.clip(values, 0.0, top).tolist()]
