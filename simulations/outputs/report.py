"""One page that tells what each policy made of the traffic: no script, nothing from elsewhere, for desk and phone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Generic, TypeVar

import numpy as np

from simulations.policies.base import Role
from simulations.world import Change, Outcome, Setting, Shared

from .charts import Floats, area, bars, drawing, line, nice_top, thinned, time_ticks
from .notes import notes_of
from .prices import Check
from .scatter import Point, badge, scatter

DECISIONS_SHOWN = 60  # the rest is in decisions.jsonl

Came = TypeVar("Came", bound=Outcome | Shared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown(Generic[Came]):
    """One policy on the page, with what came of it for one service or for several."""

    number: int
    policy: str
    outcome: Came
    cost_ratio: float  # GPU-hours ÷ those of the fixed fleet


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """What the page is about."""

    source: str
    profile: str
    setting: Setting
    shown: Sequence[Shown[Outcome]]
    checks: Sequence[Check] = ()
    courses_max: int | None = None  # drawn at most, where there are pages beside it

    @property
    def focus(self) -> Shown[Outcome]:
        """The policy that the page is about: Warmtide where it is there, else the last."""
        return next((one for one in self.shown if one.policy == "warmtide"), self.shown[-1])

    @property
    def drawn(self) -> Sequence[Shown[Outcome]]:
        """Those whose course is on the page: the focus before the fixed fleet, these before the others."""
        first = sorted(self.shown, key=lambda one: (one is not self.focus, one is not self.shown[0], one.number))
        return sorted(first[: self.courses_max], key=lambda one: one.number)


def render(page: Page) -> str:
    """The whole page."""
    title = f"{page.source}: {len(page.shown)} policies"
    return document(title, (f"<h1>{escape(title)} on the same traffic</h1>", *sections(page)))


def sections(page: Page) -> Sequence[str]:
    """All that there is to say of one service."""
    top = nice_top(max(_replicas(one.outcome)[-1].max() for one in page.shown))
    return (
        f'<p class="lede">{_verdict(page)}</p>',
        _facts(page),
        _gate(page.checks),
        "<h2>Cost against promptness</h2><p class=quiet>Up is more first tokens in time, left is fewer GPU-hours.</p>",
        _pareto(page),
        _table(page),
        "<h2>The traffic</h2>",
        _demand(page),
        f"<h2>{'What each policy did' if page.drawn else 'What each policy did is in its folder'}</h2>",
        *(_course(page, one, top) for one in page.drawn),
    )


def document(title: str, parts: Sequence[str], *, folder: str = "every request, the course and all decisions") -> str:
    """A page that asks nobody for anything."""
    css = files(__package__).joinpath("report.css").read_text(encoding="utf-8")
    foot = f"<footer>Simulated by Warmtide; the same folder holds {folder}.</footer>"
    body = f"<body><main>{''.join((*parts, foot))}</main></body>"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        # No request can leave the page, whatever a name in it may hold.
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{css}</style></head>{body}</html>\n"
    )


def _verdict(page: Page) -> str:
    what = f"of the first tokens within {page.setting.ttft_s:g} s"
    return verdict(page.focus, page.shown[0], what=what, fleet="the smallest fixed fleet")


def verdict(one: Shown[Came], fixed: Shown[Came], *, what: str, fleet: str) -> str:
    """One sentence: what the policy brought for how much, beside the fixed fleet where that is another."""
    ours, theirs = one.outcome, fixed.outcome
    said = f"<b>{escape(one.policy)}</b> brought {ours.attainment_ratio:.2%} {what} for {ours.gpu_hours:.1f} GPU-hours"
    if one is fixed:
        return said + "."
    return (
        f"{said}: {one.cost_ratio:.2f} × the {theirs.gpu_hours:.1f} GPU-hours of {fleet} "
        f"({escape(fixed.policy)}), which brought {theirs.attainment_ratio:.2%}."
    )


def _facts(page: Page) -> str:
    setting = page.setting
    facts = (
        f"{len(setting.requests):,} requests",
        f"{setting.span_s / 3600:.1f} hours",
        escape(page.profile),
        _bounds(setting),
        f"objective: first token within {setting.ttft_s:g} s",
        f"seed {setting.seed}",
    )
    return '<ul class="facts">' + "".join(f"<li>{fact}</li>" for fact in facts) + "</ul>"


def _bounds(setting: Setting) -> str:
    said = f"{setting.bounds.low} to {setting.bounds.high} replicas"
    pool = setting.fixed_pool
    if pool is None or pool.bounds is None:
        return said
    return f"{said} for decoding, {pool.bounds.low} to {pool.bounds.high} for prefill"


def _gate(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    lines = (f"<li{'' if check.holds else ' class=short'}>{escape(check.line())}</li>" for check in checks)
    return "<h2>Budgets</h2><ul>" + "".join(lines) + "</ul>"


def _pareto(page: Page) -> str:
    points = [
        Point(
            number=one.number,
            policy=one.policy,
            cost=one.outcome.gpu_hours,
            attainment_ratio=one.outcome.attainment_ratio,
            is_focus=one is page.focus,
        )
        for one in page.shown
    ]
    return scatter(points, "GPU-hours", ".1f")


def _badge(page: Page, one: Shown[Outcome]) -> str:
    return badge(one.number, one.policy, is_focus=one is page.focus)


def _table(page: Page) -> str:
    heads = ("in time", "GPU-hours", "× fixed", "TTFT p95", "starts", "changes")
    rows = []
    for one in page.shown:
        outcome = one.outcome
        cells = (
            f"{outcome.attainment_ratio:.2%}",
            f"{outcome.gpu_hours:.1f}",
            f"{one.cost_ratio:.2f}",
            f"{outcome.ttft_p95_s:.2f} s" if math.isfinite(outcome.ttft_p95_s) else "never",
            str(outcome.starts),
            str(len(outcome.decisions)),
        )
        name = f'<td class="name">{_badge(page, one)} {escape(one.policy)}</td>'
        css = ' class="focus"' if one is page.focus else ""
        rows.append(f"<tr{css}>{name}" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = '<th class="name">policy</th>' + "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _demand(page: Page) -> str:
    series = page.shown[0].outcome.series
    step_s = page.setting.span_s / max(1, len(series) - 1)
    per_s, tokens_per_s = (thinned(series[name] / step_s) for name in ("arrived_requests", "arrived_tokens"))
    figures = (("requests a second", per_s), ("tokens a second, prompt and answer", tokens_per_s))
    parts = [
        _plot([area(np.zeros(len(values)), values, nice_top(values.max()), "demand")], values, page, said)
        + f"<figcaption>{said}</figcaption>"
        for said, values in figures
    ]
    return "".join(f'<figure class="card">{part}</figure>' for part in parts)


def _plot(shapes: Sequence[str], values: Floats, page: Page, said: str, *, top: float | None = None) -> str:
    """A drawing with its scale and its times."""
    top = nice_top(float(values.max())) if top is None else top
    scale = f'<div class="scale"><span>{_short(top)}</span><span>0</span></div>'
    return f'<div class="plot">{scale}{drawing(shapes, len(values), said)}{_ticks(page.setting.span_s)}</div>'


def _ticks(span_s: float) -> str:
    spans = (
        f'<span{" class=end" if share > 0.97 else ""} style="left:{100 * share:.1f}%">{said}</span>'
        for share, said in time_ticks(span_s)
    )
    return f'<div class="ticks">{"".join(spans)}</div>'


def _short(value: float) -> str:
    return f"{value / 1e6:g} M" if value >= 1e6 else f"{value / 1e3:g} k" if value >= 1e4 else f"{value:g}"


def _replicas(outcome: Outcome) -> tuple[Floats, Floats, Floats]:
    """Upper edges of the stack: draining, ready on it, starting on that."""
    series = outcome.series
    draining = thinned(series["draining"])
    ready = draining + thinned(series["ready"])
    return draining, ready, ready + sum(thinned(series[f"starting_{tier}"]) for tier in ("hot", "warm", "cold"))


def _course(page: Page, one: Shown[Outcome], top: float) -> str:
    outcome = one.outcome
    draining, ready, starting = _replicas(outcome)
    wanted = thinned(outcome.series["wanted"])
    prefill = [
        line(thinned(use.series["wanted"]), top, "wanted part") for use in outcome.pools if use.role is Role.PREFILL
    ]
    shapes = [
        area(np.zeros(len(draining)), draining, top, "draining"),
        area(draining, ready, top, "ready"),
        area(ready, starting, top, "starting"),
        *prefill,
        line(wanted, top, "wanted"),
    ]
    arrived = thinned(outcome.series["arrived_requests"])
    late = np.divide(thinned(outcome.series["missed_requests"]), arrived, out=np.zeros(len(arrived)), where=arrived > 0)
    strip = drawing([bars(late, 1.0, "late")], len(late), f"{one.policy}: share of requests too late")
    css = "card focus" if one is page.focus else "card"
    return (
        f'<section class="{css}"><div class="head"><h3>{_badge(page, one)} {escape(one.policy)}</h3>'
        f"<p>{outcome.attainment_ratio:.2%} in time · {outcome.gpu_hours:.1f} GPU-hours · {outcome.starts} starts</p>"
        f"</div>{_notes(outcome)}"
        f"<figure>{_plot(shapes, wanted, page, f'{one.policy}: replicas', top=top)}"
        f'<div class="plot low"><div class="scale"><span>late</span></div>{strip}</div>'
        f"<figcaption>{_keys(has_pools=bool(outcome.pools))}</figcaption></figure>{_decisions(outcome)}</section>"
    )


def _notes(outcome: Outcome) -> str:
    lines = "".join(f"<li>{escape(note)}</li>" for note in notes_of(outcome))
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def _keys(*, has_pools: bool) -> str:
    keys = (("ready", "ready"), ("starting", "starting"), ("draining", "draining"), ("late", "first token too late"))
    blocks = "".join(f'<span class="key" style="--of:var(--{name})">{said}</span>' for name, said in keys)
    wanted = f'<span class="key thin" style="--of:var(--wanted)">wanted{", of both pools" if has_pools else ""}</span>'
    part = '<span class="key part">wanted for prefill</span>' if has_pools else ""
    return blocks + wanted + part


def _decisions(outcome: Outcome) -> str:
    if not outcome.decisions:
        return ""
    shown = outcome.decisions[:DECISIONS_SHOWN]
    more = len(outcome.decisions) - len(shown)
    rows = "".join(_decision(change) for change in shown)
    rest = f"<p class=quiet>{more} more in decisions.jsonl</p>" if more else ""
    return (
        f"<details><summary>{len(outcome.decisions)} changes, and why</summary>"
        f'<div class="scroll"><table><tbody>{rows}</tbody></table></div>{rest}</details>'
    )


def _decision(change: Change) -> str:
    minutes, seconds = divmod(int(change.at_s), 60)
    at = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    why = escape(change.reason if change.pool is None else f"{change.pool}: {change.reason}")
    return f'<tr><td>{at}</td><td>{change.before} → {change.after}</td><td class="why">{why}</td></tr>'
