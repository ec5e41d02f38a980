"""A trace as a picture: demand over time and how long prompts and answers are; SVG for a page, bars for a terminal."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np

from simulations.traces.chunk import TOKENS_MAX, Chunk, Floats
from simulations.traces.reshape import by_period

WIDTH, HEIGHT, LEFT, RIGHT = 960, 624, 72, 24
DEMAND_TOP, DEMAND_HEIGHT, TOKENS_TOP, TOKENS_HEIGHT, LENGTHS_TOP, LENGTHS_HEIGHT = 92, 170, 302, 110, 462, 130
PERIODS = 240  # points of a curve: one for each four pixels
TICKS_MAX = 8
# Between two marks of time, and the unit in which they are written.
STEPS_S = (60, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 2_419_200)
LENGTH_BINS = 48  # per picture, on a scale of powers of two
TERMINAL_WIDTH, TERMINAL_HEIGHT = 72, 8
BARS = " ▁▂▃▄▅▆▇█"
STYLE = """
svg{font:13px system-ui,sans-serif;background:#fff;color:#1b2733}text{fill:currentColor}
.soft{fill:#66788a}.grid{stroke:#dfe6ec}.a{fill:#2a78d633;stroke:#2a78d6}.b{fill:#1d9a8a33;stroke:#1d9a8a}
.c{fill:#2a78d6}.d{fill:#e08a2e}
@media(prefers-color-scheme:dark){svg{background:#10171e;color:#e4ebf2}.soft{fill:#93a4b5}.grid{stroke:#26323d}}
"""


@dataclass(slots=True)
class Picture:
    """What is drawn: per period the requests and tokens, and counts of lengths on a scale of powers of two."""

    period_s: float
    requests_per_s: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    prompts: Floats = field(default_factory=lambda: np.zeros(LENGTH_BINS))
    outputs: Floats = field(default_factory=lambda: np.zeros(LENGTH_BINS))

    def add(self, period: Chunk) -> None:
        """The next period."""
        tokens = int(period.prompt_tokens.sum(dtype=np.int64) + period.output_tokens.sum(dtype=np.int64))
        self.requests_per_s.append(len(period) / self.period_s)
        self.tokens_per_s.append(tokens / self.period_s)
        self.prompts += _binned(period.prompt_tokens)
        self.outputs += _binned(period.output_tokens)

    @property
    def span_s(self) -> float:
        """Of all periods."""
        return self.period_s * len(self.requests_per_s)


def picture(chunks: Iterable[Chunk], span_s: float) -> Picture:
    """A trace that lasts so long, in PERIODS periods."""
    found = Picture(period_s=max(span_s, 1.0) / PERIODS * (1 + 1e-9))
    for period in by_period(chunks, found.period_s):
        found.add(period)
    return found


def svg(found: Picture, title: str, says: str) -> str:
    """A picture that stands for itself: no script, nothing from outside, light and dark."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title)}"><style>{STYLE}</style>',
        f'<text x="{LEFT}" y="30" font-size="18" font-weight="600">{escape(title)}</text>',
        f'<text x="{LEFT}" y="50" class="soft">{escape(says)}</text>',
        *_curve(found.requests_per_s, DEMAND_TOP, DEMAND_HEIGHT, "a", "requests per second"),
        *_curve(found.tokens_per_s, TOKENS_TOP, TOKENS_HEIGHT, "b", "tokens per second, prompt and answer"),
        *_hours(found.span_s, TOKENS_TOP + TOKENS_HEIGHT + 16),
        *_lengths(found),
        "</svg>\n",
    ]
    return "\n".join(parts)


def bars(found: Picture) -> str:
    """Requests per second over time, for a terminal."""
    values = _resized(found.requests_per_s, TERMINAL_WIDTH)
    top = _round_up(max(values) or 1.0)
    eighths = [round(value / top * TERMINAL_HEIGHT * 8) for value in values]
    lines = []
    for level in reversed(range(TERMINAL_HEIGHT)):
        label = f"{top * (level + 1) / TERMINAL_HEIGHT:8.3g} " if level % 2 else " " * 9
        lines.append(label + "".join(BARS[min(8, max(0, eighth - 8 * level))] for eighth in eighths).rstrip())
    unit_s = 86_400 if found.span_s > 2 * 86_400 else 3600 if found.span_s > 2 * 3600 else 60
    ends = f"0{_time(found.span_s, unit_s):>{TERMINAL_WIDTH - 1}}"
    return "\n".join(["requests/s", *lines, " " * 9 + ends]) + "\n"


def _curve(values: Sequence[float], top: int, height: int, name: str, says: str) -> list[str]:
    most = _round_up(max(values, default=1.0) or 1.0)
    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="600">{says}</text>']
    for tick in range(3):
        y = top + height * (1 - tick / 2)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" class="grid"/>')
        label = _short(most * tick / 2)
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end" class="soft">{label}</text>')
    step = (WIDTH - LEFT - RIGHT) / max(1, len(values))
    places = [LEFT + step * (number + 0.5) for number in range(len(values))]
    points = [f"{x:.1f},{top + height * (1 - value / most):.1f}" for x, value in zip(places, values, strict=True)]
    ends = f"{places[0]:.1f},{top + height}", f"{places[-1]:.1f},{top + height}"
    parts.append(f'<polygon points="{ends[0]} {" ".join(points)} {ends[1]}" class="{name}" stroke-width="0"/>')
    parts.append(f'<polyline points="{" ".join(points)}" class="{name}" fill-opacity="0" stroke-width="1.6"/>')
    return parts


def _hours(span_s: float, y: int) -> list[str]:
    """Marks of time at round steps."""
    step_s = next((step for step in STEPS_S if span_s / step <= TICKS_MAX), STEPS_S[-1])
    width = (WIDTH - LEFT - RIGHT) / span_s
    return [
        f'<text x="{LEFT + width * at_s:.0f}" y="{y}" class="soft" text-anchor="{"middle" if at_s else "start"}">'
        f"{_time(at_s, step_s) if at_s else 0}</text>"
        for at_s in range(0, int(span_s) + 1, step_s)
    ]


def _lengths(found: Picture) -> list[str]:
    counts = np.stack([found.prompts, found.outputs])
    used = np.flatnonzero(counts.sum(axis=0))
    first, last = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    step, most = (WIDTH - LEFT - RIGHT) / (last - first), counts.max() or 1.0
    base = LENGTHS_TOP + LENGTHS_HEIGHT
    parts = [
        f'<text x="{LEFT}" y="{LENGTHS_TOP - 8}" font-weight="600">tokens per request: '
        '<tspan fill="#2a78d6">prompts</tspan> and <tspan fill="#e08a2e">answers</tspan></text>',
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}" class="grid"/>',
    ]
    for row, (name, shift) in enumerate((("c", 0.08), ("d", 0.5))):
        for number in range(first, last):
            height = LENGTHS_HEIGHT * counts[row, number] / most
            x, width = LEFT + step * (number - first + shift), step * 0.4
            place = f'x="{x:.1f}" y="{base - height:.1f}" width="{width:.1f}" height="{height:.1f}"'
            parts.append(f'<rect {place} class="{name}"/>')
    for power in range(-(-first // 2), last // 2 + 1, max(1, (last - first) // 20)):
        x = LEFT + step * (2 * power - first)
        tokens = f"{2**power}" if power < 10 else f"{2 ** (power - 10)}k"
        parts.append(f'<text x="{x:.0f}" y="{base + 18}" text-anchor="middle" class="soft">{tokens}</text>')
    return parts


def _binned(tokens: "np.ndarray[tuple[int], np.dtype[np.int32]]") -> Floats:
    """Counts by half powers of two; what has no tokens is not counted."""
    places = np.floor(2 * np.log2(np.clip(tokens[tokens > 0], 1, TOKENS_MAX))).astype(np.int64)
    return np.bincount(places, minlength=LENGTH_BINS).astype(np.float64)


def _resized(values: Sequence[float], length: int) -> list[float]:
    return [float(part.max()) if len(part) else 0.0 for part in np.array_split(np.array(values), length)]


def _round_up(value: float) -> float:
    """The next of these steps times a power of ten, so that half of it reads well too."""
    power: float = 10.0 ** math.floor(math.log10(value))
    return next((step * power for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8) if step * power >= value), 10 * power)


def _short(value: float) -> str:
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def _time(at_s: float, step_s: float) -> str:
    """In the largest unit of which the step is a whole number."""
    unit_s, unit = next((size, name) for size, name in ((86_400, "d"), (3600, "h"), (60, "min")) if step_s >= size)
    return f"{at_s / unit_s:.3g} {unit}"
