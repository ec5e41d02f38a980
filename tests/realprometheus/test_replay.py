"""`warmtide sim replay` on a real Prometheus over a history written for it."""

import asyncio
import contextlib
import io
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from metrics.clock import WallClock
from simulations import cli
from simulations.cluster.real_prometheus import prometheus, write_history

BEGIN_S, HOURS, STEP_S = 1_790_000_000, 2, 15
PROMPT, OUTPUT = 1000, 200
BUCKETS = {"0.5": 0.5, "1.0": 0.8, "2.5": 0.95, "+Inf": 1.0}


def requests_per_s(at_s: float) -> float:
    """Between 2 and 10 in an hour's wave."""
    return 6.0 + 4.0 * math.sin(at_s / 3600 * 2 * math.pi)


def lines() -> list[str]:
    """Two pods, and a third from the second hour on."""
    rows: dict[tuple[str, str], list[str]] = {}
    total = 0.0
    for second in range(0, HOURS * 3600 + 1, STEP_S):
        total += requests_per_s(second) * STEP_S
        for pod in ("llama-a", "llama-b", "llama-c")[: 2 + (second >= 3600)]:
            served = 0.0 if pod == "llama-c" else total / 2
            for kind, name, suffix, more, value in page(served):
                labels = f'{{namespace="team-a",pod="{pod}"{more}}}'
                row = f"vllm:{name}{suffix}{labels} {value} {BEGIN_S + second}"
                rows.setdefault((f"vllm:{name}", kind), []).append(row)
    found = []
    for (name, kind), of_metric in rows.items():
        found += [f"# TYPE {name} {kind}", *sorted(of_metric, key=lambda row: row.split(" ")[0])]
    return found


def page(served: float) -> Iterator[tuple[str, str, str, str, float]]:
    """What a pod says that has served so many requests: type, name, suffix, labels, value."""
    yield "counter", "request_success", "_total", "", served
    yield "counter", "prompt_tokens", "_total", "", served * PROMPT
    yield "counter", "generation_tokens", "_total", "", served * OUTPUT
    yield "gauge", "num_requests_running", "", "", 1.0
    for le, share in BUCKETS.items():
        yield "histogram", "time_to_first_token_seconds", "_bucket", f',le="{le}"', served * share


def called(arguments: list[str]) -> tuple[int, str]:
    """The command in a thread of its own: it has its own event loop."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = cli.main(arguments)
    return code, out.getvalue()


async def test_the_past_of_a_service_is_replayed_beside_what_was_done(tmp_path: Path) -> None:
    await write_history(tmp_path, lines())
    end = datetime.fromtimestamp(BEGIN_S + HOURS * 3600, UTC).isoformat()
    csv = tmp_path / "course.csv"
    async with prometheus(tmp_path, WallClock()) as url:
        call = ["replay", "--prometheus", url, "--namespace", "team-a", "--pods", "llama-.*", "--end", end]
        code, out = await asyncio.to_thread(called, [*call, "--hours", str(HOURS), "--csv", str(csv)])
        nobody = await asyncio.to_thread(called, [*call[:-3], "other-.*", *call[-2:]])

    assert code == 0, out
    assert float(re.search(r"UTC: ([\d.]+) requests/s", out)[1]) == pytest.approx(6.0, rel=0.03)  # type: ignore[index]
    measured = re.search(r"as it was, measured +([\d.]+)% +([\d.]+)", out)
    assert measured is not None
    assert float(measured[1]) == pytest.approx(90.0, abs=0.2)  # two seconds: two thirds of the way from 80 to 95 %
    assert float(measured[2]) == pytest.approx(5.0, abs=0.1)  # two pods for an hour, three for another
    assert "as it was, simulated" in out
    assert "warmtide, simulated" in out
    course = [row.split(",") for row in csv.read_text(encoding="utf-8").splitlines()]
    assert course[0] == ["at_s", "requests_per_s", "as it was", "warmtide"]
    assert {row[2] for row in course[1:]} == {"2", "3"}
    assert nobody[0] == 2
    assert "Prometheus has no requests and no prompt tokens and no generated tokens of pods 'other-.*'" in nobody[1]
