"""The demo as a live terminal view."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from autoscaler.sentences import sentence
from simulations.demo.frame import Frame, Moment

SPARKS = " ▁▂▃▄▅▆▇█"
DECISIONS_SHOWN = 6
SPARK_WIDTH_MAX = 90
LABEL_WIDTH = 16
RIGHT_WIDTH = 30  # "12 starting, 12 leaving" and the frame


class LiveView:
    """Implements `View` on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def say(self, text: str) -> None:
        self.close()
        self._console.print(text, highlight=False, markup=False)

    def show(self, frame: Frame) -> None:
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False, transient=False)
            self._live.start()
        self._live.update(
            draw(frame, min(SPARK_WIDTH_MAX, self._console.width - LABEL_WIDTH - RIGHT_WIDTH)), refresh=True
        )

    def close(self) -> None:
        if self._live is not None:
            live, self._live = self._live, None
            live.stop()


def draw(frame: Frame, width: int) -> RenderableType:
    """The whole picture."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=LABEL_WIDTH, style="bold")
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for label, middle, right in _rows(frame, max(20, width)):
        table.add_row(label, middle, right)
    whole = "" if frame.seconds is None else f"of {frame.seconds:.0f} "
    title = f"Warmtide · {frame.now.at_s:.0f} {whole}s"
    return Panel(Group(table, Text(), _decisions(frame)), title=title, border_style="cyan")


def _rows(frame: Frame, width: int) -> list[tuple[str, RenderableType, str]]:
    now = frame.now
    objective_s = frame.ttft_objective_s
    slow = None not in (frame.ttft_p95_s, objective_s) and (frame.ttft_p95_s or 0.0) > (objective_s or 0.0)
    ttft = Text("-" if frame.ttft_p95_s is None else f"{frame.ttft_p95_s:.2f} s", style="red" if slow else "green")

    def spark(value: Callable[[Moment], float], style: str) -> Text:
        return Text(sparkline([value(moment) for moment in frame.history], width), style=style)

    return [
        ("demand", spark(lambda m: m.demand_tokens_per_s, "blue"), f"{now.demand_tokens_per_s:.0f} tokens/s"),
        ("replicas", spark(lambda m: float(m.ready), "green"), f"{now.ready} ready, {now.desired} wanted"),
        ("", _fleet(now), f"{now.starting} starting, {now.terminating} leaving"),
        ("queue", spark(lambda m: m.waiting_requests, "yellow"), f"{now.waiting_requests:.0f} waiting"),
        ("KV cache", _bar(now.kv_cache_usage_ratio, width), f"{now.kv_cache_usage_ratio:.0%}"),
        ("requests", _progress(frame, width), f"{now.served} served, {now.lost} lost"),
        ("TTFT p95", ttft, "no objective" if objective_s is None else f"objective {objective_s:g} s"),
    ]


def _progress(frame: Frame, width: int) -> RenderableType:
    """How many of all requests have ended; where there is no end to see, how many are on their way."""
    now = frame.now
    if frame.requests is None:
        return Text(f"{now.outstanding_requests} on their way")
    return _bar((now.served + now.lost) / max(1, frame.requests), width)


def _bar(share: float, width: int) -> ProgressBar:
    return ProgressBar(total=1.0, completed=min(1.0, share), width=width)


def _fleet(now: Moment) -> Text:
    text = Text()
    text.append("■ " * now.ready, style="green")
    text.append("□ " * now.starting, style="yellow")
    text.append("× " * now.terminating, style="red")
    return text


def sparkline(values: Sequence[float], width: int) -> str:
    """The values as a line of bars of at most this width; a column shows the largest of its values."""
    columns = min(width, len(values))
    edges = [round(column * len(values) / columns) for column in range(columns + 1)] if columns else [0]
    peaks = [max(values[low:high]) for low, high in pairwise(edges)]
    top = max(peaks, default=0.0)
    return "".join(SPARKS[round(peak / top * (len(SPARKS) - 1))] if top > 0 else SPARKS[0] for peak in peaks)


def _decisions(frame: Frame) -> RenderableType:
    table = Table.grid(padding=(0, 1))
    for style in ("dim", "bold", "cyan", ""):
        table.add_column(style=style, no_wrap=style != "")
    for decision in frame.decisions[-DECISIONS_SHOWN:]:
        arrow = f"{decision.before} → {decision.after}"
        table.add_row(f"{decision.at_s:5.1f} s", arrow, decision.reason, sentence(decision.reason))
    return table
