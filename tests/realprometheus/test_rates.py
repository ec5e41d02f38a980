"""The simulator's `increase` and look-back beside a real Prometheus, over series recorded as scrapes make them."""

import asyncio
import math
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from metrics.clock import WallClock
from metrics.prometheus import History, HistoryConfig
from simulations.cluster.real_prometheus import prometheus, write_history
from simulations.compiled import scrapes
from simulations.compiled.sight import new_sight

# Of Unix time, which only Prometheus needs: floats have no microseconds left there.
BEGIN_S, SPAN_S, SCRAPE_S = 1_790_000_000, 1200, 15
WINDOWS_S = (30, 45, 60, 300)
# Before 2.51 a counter's zero counted before it was known whether the edge of the range is near (commit 7f912db15a).
ZERO_AFTER_NEARNESS = (2, 51)
Samples = list[tuple[float, float]]


def scraped(kind: str) -> Samples:
    """What a target said, at times of whole milliseconds none of which lies at the edge of a range asked for."""
    chance, value, found = random.Random(kind), 0.0, []
    for number in range(SPAN_S // SCRAPE_S):
        value += chance.choice([0.0, 1.0, 17.5, 400.25])
        if kind == "late" and number < 30:
            value = 0.0
        if (kind == "gaps" and chance.random() < 0.3) or (kind == "late" and number < 30):
            continue
        if kind == "restarts" and chance.random() < 0.15:
            value = chance.choice([0.0, 3.0])
        late_s = chance.random() * 4.0 if kind == "jitter" else 0.0
        found.append((round(number * SCRAPE_S + late_s, 2) + 0.003, value))
    return found


KINDS = ("regular", "jitter", "gaps", "restarts", "late")


def lines(series: dict[str, Samples]) -> Iterator[str]:
    yield "# TYPE seen counter"
    for kind, samples in series.items():
        for at_s, value in samples:
            yield f'seen_total{{kind="{kind}"}} {value!r} {BEGIN_S + at_s:.3f}'


def zero_matters(samples: Samples, begin_s: float, end_s: float) -> bool:
    """Whether old and new Prometheus differ on where a counter of this range began."""
    inside = [sample for sample in samples if begin_s < sample[0] <= end_s]
    (first_s, first), (last_s, last) = inside[0], inside[-1]
    gap_s = (last_s - first_s) / (len(inside) - 1)
    if last <= first or first_s - begin_s < 1.1 * gap_s:
        return False
    return gap_s / 2 < (last_s - first_s) * first / (last - first) < 1.1 * gap_s


async def version() -> tuple[int, ...]:
    asked = await asyncio.create_subprocess_exec("prometheus", "--version", stdout=asyncio.subprocess.PIPE, stderr=-2)
    said, _ = await asked.communicate()
    return tuple(int(part) for part in re.findall(r"version (\d+)\.(\d+)", said.decode())[0])


async def test_increases_are_those_of_a_real_prometheus(tmp_path: Path) -> None:
    series = {kind: scraped(kind) for kind in KINDS}
    await write_history(tmp_path, lines(series))
    is_new, compared, apart = await version() >= ZERO_AFTER_NEARNESS, 0, 0
    async with prometheus(tmp_path, WallClock()) as url:
        history = History(HistoryConfig(url=url))
        for window_s in WINDOWS_S:
            query = f"increase(seen_total[{window_s}s])"
            answer = await history.query_range(query, start_s=BEGIN_S + 7, end_s=BEGIN_S + SPAN_S + 60, step_s=1)
            told = {dict(one.labels)["kind"]: dict(one.points) for one in answer.series}
            for kind, samples in series.items():
                times_s, values = (np.array(column) for column in zip(*samples, strict=True))
                for end_s in range(7, SPAN_S + 61):
                    ours = scrapes.increase(times_s, values, end_s - window_s, end_s)
                    theirs = told[kind].get(float(BEGIN_S + end_s))
                    assert math.isnan(ours) == (theirs is None), (kind, window_s, end_s)
                    if theirs is None:
                        continue
                    if not is_new and zero_matters(samples, end_s - window_s, end_s):
                        apart += 1
                        continue
                    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9), (kind, window_s, end_s)
                    compared += 1

    print(f"{compared} ranges equal to 1e-9; {apart} not comparable with Prometheus before 2.51")
    assert compared > 15_000
    assert apart < compared / 50


async def test_the_last_sample_counts_for_as_long_as_in_a_real_prometheus(tmp_path: Path) -> None:
    samples = scraped("gaps")[:5]
    await write_history(
        tmp_path, ["# TYPE seen gauge", *(f"seen {value!r} {BEGIN_S + at_s:.3f}" for at_s, value in samples)]
    )
    kept = scrapes.new_scrapes(new_sight(1), len(samples))
    kept.kept[0] = len(samples)
    kept.pages[0, :, [scrapes.AT_S, scrapes.GAUGES]] = np.array(samples).T

    async with prometheus(tmp_path, WallClock()) as url:
        answer = await History(HistoryConfig(url=url)).query_range(
            "seen", start_s=BEGIN_S, end_s=BEGIN_S + 600, step_s=1
        )

    ours = {}
    for at_s in range(601):
        row = scrapes.newest(kept, 0, float(at_s))
        if row >= 0:
            ours[float(BEGIN_S + at_s)] = float(kept.pages[0, row, scrapes.GAUGES])
    assert ours == dict(answer.series[0].points)
