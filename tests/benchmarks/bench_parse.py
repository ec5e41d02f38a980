"""How much faster than prometheus_client's parser a vLLM page is read; both on the same page, in one process.

CPU time, the best of several rounds taken in turn: what else runs on the machine disturbs both alike.
"""

import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from figures import Figure
from prometheus_client.parser import text_string_to_metric_families

from metrics.catalog import read_sample
from metrics.exposition import parse
from metrics.pages import vllm_page

BAR = 20.0
ROUNDS = 15
REAL_PAGE = Path(__file__).parents[2] / ".." / "shared" / "vllm" / "metrics-0.32-load.txt"


def run() -> list[Figure]:
    pages = {"": vllm_page(steps=123_456)}
    if REAL_PAGE.exists():
        pages["_real_page"] = REAL_PAGE.read_bytes()
    return [figure for suffix, page in pages.items() for figure in compare(page, suffix)]


def compare(page: bytes, suffix: str) -> list[Figure]:
    """Figures for one page."""
    text = page.decode()
    theirs_s, sample_s, full_s = in_turn(
        lambda: deque(text_string_to_metric_families(text), maxlen=0),
        lambda: [read_sample(page, observed_at_s=0.0) for _ in range(20)],
        lambda: [parse(page) for _ in range(5)],
    )
    sample_s, full_s = sample_s / 20, full_s / 5
    return [
        Figure(name=f"parse_ratio{suffix}", value=theirs_s / sample_s, unit="x", bar=BAR),
        Figure(name=f"parse_full_ratio{suffix}", value=theirs_s / full_s, unit="x"),
        Figure(name=f"parse_page{suffix}", value=len(page), unit="bytes"),
        Figure(name=f"parse_sample{suffix}", value=sample_s * 1e6, unit="us", better="lower"),
    ]


def in_turn(*actions: Callable[[], object]) -> list[float]:
    """The least CPU seconds that each action took."""
    best = [float("inf")] * len(actions)
    for _ in range(ROUNDS):
        for place, action in enumerate(actions):
            began_s = time.process_time()
            action()
            best[place] = min(best[place], time.process_time() - began_s)
    return best
