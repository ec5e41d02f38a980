"""What Prometheus keeps of a fleet, and what its queries make of it: `scrape` stores pages, `query` looks at them."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .gaps import GAP_BUCKETS, PACES
from .jit import inner, inner_apart, jit
from .kernel import advance
from .layout import Rows, World
from .sight import (
    BUCKETS,
    COUNTS,
    KV_USAGE,
    OBSERVED_S,
    PAGES,
    PROMPT_PER_S,
    RUNNING,
    SPAN_S,
    TTFT_BUCKETS,
    WAITING,
    WIDTH,
    Floats,
    Sight,
    held_at,
    read,
)

LOOKBACK_S = 300.0  # --query.lookback-delta: an older sample is none
NEAR_GAPS = 1.1  # extrapolation goes to the edge of a range that is no further than so many mean gaps
UNWOKEN = (math.nan, math.nan, math.nan)  # no page is news to anybody
# Columns of a stored page: when, the gauges, then the totals of a page with its buckets cumulated.
AT_S, GAUGES, TOTALS = 0, 1, 4


class Scrapes(NamedTuple):
    """The last pages of each target in order of time; the target after the last slot is the router."""

    due_at_s: Floats  # the next scrape; infinite: none
    kept: NDArray[np.int64]
    pages: Floats  # targets x depth x columns


def new_scrapes(sight: Sight, depth: int) -> Scrapes:
    """Nothing is scraped yet of what there is to see."""
    slots, _, width = sight.totals.shape
    return Scrapes(
        due_at_s=np.full(slots + 1, math.inf),
        kept=np.zeros(slots + 1, np.int64),
        pages=np.zeros((slots + 1, depth, TOTALS + width)),
    )


@jit
def scrape(world: World, sight: Sight, scrapes: Scrapes, until_s: float, period_s: float) -> None:
    """Move on until then, and store the page of each target whenever it is due."""
    router = len(scrapes.due_at_s) - 1
    while True:
        due_at_s = scrapes.due_at_s[router]
        for slot in range(world.course[0]["slots"]):
            due_at_s = min(due_at_s, scrapes.due_at_s[slot])
        if due_at_s > until_s:
            advance(world, until_s)
            return
        advance(world, due_at_s)
        for slot in range(world.course[0]["slots"]):
            if scrapes.due_at_s[slot] <= due_at_s:
                scrapes.due_at_s[slot] += period_s
                _store(world, sight, scrapes, slot, due_at_s)
        if scrapes.due_at_s[router] <= due_at_s:
            scrapes.due_at_s[router] += period_s
            page = scrapes.pages[router, _next_row(scrapes, router)]
            page[AT_S], page[GAUGES] = due_at_s, held_at(world, due_at_s)


@inner
def _store(world: World, sight: Sight, scrapes: Scrapes, slot: int, at_s: float) -> None:
    read(world, sight, slot, at_s, UNWOKEN)
    eye, page = sight.eyes[slot], scrapes.pages[slot, _next_row(scrapes, slot)]
    page[AT_S], page[GAUGES] = at_s, eye["running_requests"]
    page[GAUGES + 1], page[GAUGES + 2] = eye["waiting_requests"], eye["kv_cache_usage_ratio"]
    newest = sight.totals[slot, (eye["first"] + eye["kept"] - 1) % PAGES]
    for column in range(len(newest)):
        page[TOTALS + column] = newest[column]
    _cumulate(page, TOTALS + BUCKETS, TTFT_BUCKETS)
    if len(newest) > WIDTH:
        _cumulate(page, TOTALS + WIDTH, GAP_BUCKETS)
        _cumulate(page, TOTALS + WIDTH + PACES, GAP_BUCKETS)


@inner_apart
def _cumulate(page: Floats, first: int, buckets: int) -> None:
    for column in range(first + 1, first + buckets):
        page[column] += page[column - 1]


@inner_apart
def _next_row(scrapes: Scrapes, target: int) -> int:
    """Room for one more page; where there is none the oldest goes."""
    pages, kept = scrapes.pages[target], scrapes.kept[target]
    if kept == len(pages):
        for row in range(1, kept):
            for column in range(pages.shape[1]):
                pages[row - 1, column] = pages[row, column]
        kept -= 1
    scrapes.kept[target] = kept + 1
    return int(kept)


@jit
def newest(scrapes: Scrapes, target: int, at_s: float) -> int:
    """The row of the last page that a query at this time finds; -1: none within the lookback."""
    pages = scrapes.pages[target]
    for back in range(scrapes.kept[target]):
        row = scrapes.kept[target] - 1 - back
        if pages[row, AT_S] <= at_s:
            return int(row) if pages[row, AT_S] > at_s - LOOKBACK_S else -1
    return -1


@jit
def query(scrapes: Scrapes, slots: Rows, at_s: float, window_s: float, summaries: Floats) -> None:
    """What queries at this time say of each of these slots, as a summary of `sight`; rates over `window_s` if > 0.

    -inf seconds of observation: there is no such series. A span of 0: there are gauges, and no rates.
    """
    for index in range(len(slots)):
        slot, found = slots[index], summaries[index]
        row = newest(scrapes, slot, at_s)
        if row < 0:
            found[OBSERVED_S] = -math.inf
            continue
        pages = scrapes.pages[slot, : scrapes.kept[slot]]
        found[OBSERVED_S], found[RUNNING] = pages[row, AT_S], pages[row, GAUGES]
        found[WAITING], found[KV_USAGE] = pages[row, GAUGES + 1], pages[row, GAUGES + 2]
        if window_s > 0:
            _rates(pages, at_s, window_s, found)


@inner
def _rates(pages: Floats, at_s: float, window_s: float, found: Floats) -> None:
    times_s, begin_s = pages[:, AT_S], at_s - window_s
    found[SPAN_S] = 0.0 if math.isnan(increase(times_s, pages[:, TOTALS], begin_s, at_s)) else window_s
    for column in range(BUCKETS):
        found[PROMPT_PER_S + column] = increase(times_s, pages[:, TOTALS + column], begin_s, at_s) / window_s
    for column in range(BUCKETS, pages.shape[1] - TOTALS):
        found[COUNTS + column - BUCKETS] = increase(times_s, pages[:, TOTALS + column], begin_s, at_s)


@jit
def increase(at_s: Floats, values: Floats, begin_s: float, end_s: float) -> float:
    """A counter's `increase` over the range that ends with the query; NaN where it holds fewer than two samples.

    As `extrapolatedRate` in promql/functions.go of Prometheus 3.9: the begin is not part of the range; a value that
    falls is a restart from 0; what the samples do not cover is added up to the edge where that is near, else by half
    a gap, and never to before the counter's zero.
    """
    first, last, count, lost = 0, 0, 0, 0.0
    for index in range(len(at_s)):
        if not begin_s < at_s[index] <= end_s:
            continue
        if count == 0:
            first = index
        elif values[index] < values[last]:
            lost += values[last]
        last, count = index, count + 1
    if count < 2:
        return math.nan
    grown, sampled_s = values[last] - values[first] + lost, at_s[last] - at_s[first]
    gap_s = sampled_s / (count - 1)
    before_s, after_s = at_s[first] - begin_s, end_s - at_s[last]
    before_s = before_s if before_s < NEAR_GAPS * gap_s else gap_s / 2
    after_s = after_s if after_s < NEAR_GAPS * gap_s else gap_s / 2
    if grown > 0 and values[first] >= 0:
        before_s = min(before_s, sampled_s * values[first] / grown)
    return float(grown * (sampled_s + before_s + after_s) / sampled_s)
