"""The page: what it says, that nothing leaves it, and how a real browser shows it on a desk and on a phone."""

import html
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulations.compare import Row
from simulations.outputs import Check, Page, ServicesPage, Shown, render, render_services
from simulations.outputs.charts import nice_top, thinned, time_ticks
from simulations.policies.base import Role
from simulations.world import Setting, Shared
from simulations.world.outcome import PoolUse

BYTES_MAX = 2_000_000
CHROMIUM = shutil.which("chromium")
WITHIN_S = 50.0


@pytest.fixture
def page(setting: Setting, rows: list[Row]) -> Page:
    shown = [
        Shown(number=number, policy=row.policy, outcome=row.outcome, cost_ratio=row.cost_ratio)
        for number, row in enumerate(rows, start=1)
    ]
    return Page(source="a small test", profile="llama-3.1-8b-l40s", setting=setting, shown=shown)


def test_the_page_says_first_what_came_of_it(page: Page) -> None:
    text = render(page)

    one = page.focus
    assert one.policy == "warmtide"
    assert f"<b>warmtide</b> brought {one.outcome.attainment_ratio:.2%} of the first tokens within 2 s" in text
    for shown in page.shown:
        assert f"{shown.outcome.gpu_hours:.1f} GPU-hours" in text
    assert text == render(page)


def test_every_decision_shown_has_its_reason(page: Page) -> None:
    changes = [change for shown in page.shown for change in shown.outcome.decisions]
    assert changes

    text = render(page)

    for change in changes[:20]:
        assert f"{change.before} → {change.after}</td>" in text
        assert html.escape(change.reason) in text


def test_of_two_pools_it_is_told_what_each_was_to_have(page: Page) -> None:
    outcome = page.focus.outcome
    use = PoolUse(
        role=Role.PREFILL,
        gpu_hours=1.0,
        starts=0,
        replicas_at_start=1,
        decisions=(),
        startups=outcome.startups,
        series=outcome.series,
    )
    both = replace(page.focus, outcome=replace(outcome, pools=(use, replace(use, role=Role.DECODE))))

    text = render(replace(page, shown=[both]))

    assert text.count('class="wanted part"') == 1
    assert "wanted for prefill" in text
    assert "wanted for prefill" not in render(page)


def test_a_budget_that_was_missed_stands_out(page: Page) -> None:
    checks = [Check(name="p95_ms", actual=900.0, budget=500.0), Check(name="error_rate", actual=0.0, budget=0.1)]

    text = render(replace(page, checks=checks))

    assert "<li class=short>p95_ms: 900, budget 500, over by 400</li>" in text
    assert "<li>error_rate: 0, budget 0.1</li>" in text


def test_nothing_leaves_the_page_whatever_a_name_holds(page: Page) -> None:
    hostile = '<script>alert(1)</script>"><img src=//elsewhere>'
    shown = [replace(one, policy=hostile) for one in page.shown]

    text = render(replace(page, source=hostile, profile=hostile, shown=shown))

    assert "<script" not in text
    assert "<img" not in text
    for sign in ("http://", "https://", 'src="', "url(", "@import"):
        assert sign not in text, sign
    assert "default-src 'none'" in text


def test_a_long_course_of_many_policies_stays_small(page: Page) -> None:
    many = [replace(page.shown[-1], number=number) for number in range(1, 25)]

    assert len(render(replace(page, shown=many)).encode()) < BYTES_MAX


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH (Debian package: chromium)")
@pytest.mark.parametrize("width", [390, 1280], ids=["phone", "desk"])
def test_a_real_browser_shows_all_of_it_without_scrolling_sideways(page: Page, tmp_path: Path, width: int) -> None:
    """In a frame of that width, which a headless window cannot be; what it measures ends up in the title."""
    script = """
      const doc = document.querySelector('iframe').contentDocument, root = doc.documentElement;
      const drawn = [...doc.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width > 200);
      document.title = [root.scrollWidth, drawn.length, getComputedStyle(doc.body).fontSize].join(' ');
    """
    frame = f'<iframe width="{width}" height="3000" style="border:0" srcdoc="{html.escape(render(page))}"></iframe>'
    file = tmp_path / "frame.html"
    file.write_text(f"<meta charset=utf-8>{frame}<script>onload = () => {{{script}}}</script>", encoding="utf-8")

    done = subprocess.run(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--window-size=1400,3100",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=True,
    )

    measured = done.stdout.split("<title>")[1].split("</title>")[0].split()
    assert int(measured[0]) <= width
    assert int(measured[1]) == 2 + 2 * len(page.shown)
    assert measured[2] == "16px"


@pytest.mark.parametrize(
    ("highest", "top"), [(0.0, 1.0), (0.9, 1.0), (1.1, 2.0), (21.0, 25.0), (100.0, 100.0), (6e5, 1e6)]
)
def test_a_scale_ends_at_a_round_number(highest: float, top: float) -> None:
    assert nice_top(highest) == pytest.approx(top)


@pytest.mark.parametrize(
    ("span_s", "said"),
    [(3600, "60 min"), (86_400, "20 h"), (7 * 86_400, "6 d"), (40, "0.6 min")],
)
def test_times_are_told_in_a_unit_that_fits(span_s: float, said: str) -> None:
    ticks = time_ticks(span_s)

    assert ticks[-1][1] == said
    assert ticks[0] == (0.0, "0")
    assert all(0.0 <= share <= 1.0 + 1e-9 for share, _ in ticks)


def test_thinning_keeps_the_mean() -> None:
    values = np.arange(1000.0)

    assert thinned(values, 100).mean() == pytest.approx(values.mean())
    assert len(thinned(values, 100)) == 100
    assert (thinned(values[:50], 100) == values[:50]).all()


def test_a_page_of_many_services_and_policies_stays_small(page: Page) -> None:
    many = [replace(page.shown[-1], number=number, policy=f"p{number}") for number in range(1, 19)]
    outcome = page.shown[-1].outcome
    shared = Shared(outcomes=(outcome,) * 50, nodes=())
    shown = [Shown(number=one.number, policy=one.policy, outcome=shared, cost_ratio=1.0) for one in many]
    services = [replace(page, source=f"service {number}", shown=many) for number in range(50)]

    text = render_services(ServicesPage(source="all", shown=shown, services=services))

    assert len(text.encode()) < BYTES_MAX
    assert all(f"<h1>service {number}</h1>" in text for number in range(50))


def test_where_not_all_courses_are_drawn_the_focus_and_the_fixed_fleet_are_and_the_table_has_all(page: Page) -> None:
    many = [replace(page.focus, number=number, policy=name) for number, name in enumerate("abc", start=1)]
    ours = replace(page.focus, number=4)

    drawn = replace(page, shown=[*many, ours], courses_max=2).drawn

    assert [one.policy for one in drawn] == ["a", "warmtide"]
    assert [one.policy for one in replace(page, shown=[*many, ours], courses_max=1).drawn] == ["warmtide"]
    assert len(replace(page, shown=[*many, ours]).drawn) == 4
