"""One page of a comparison over seeds: what is known of each policy, with intervals, and curves where asked for."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape

from simulations.study import Comparison, Paired

from .report import document
from .scatter import Point, badge, scatter


def render_study(lines: Sequence[Comparison], attainment_ratio: float | None) -> str:
    """The whole page; costs at that attainment where there are curves."""
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for line in lines:
        groups[line.scenario, line.service].append(line)
    seeds = lines[0].attainment_ratio.seeds
    title = f"{', '.join(dict.fromkeys(line.scenario for line in lines))}: {seeds} seed{'s' if seeds > 1 else ''}"
    parts = [f"<h1>{escape(title)}, every policy on the same traffic</h1>"]
    shared = {scenario for scenario, service in groups if service}
    for (scenario, service), group in groups.items():
        heading = f"{scenario}, {service or 'all services'}" if scenario in shared else scenario
        parts += [f"<section><h1>{escape(heading)}</h1>"] if len(groups) > 1 else ["<section>"]
        parts += [*_section(group, attainment_ratio), "</section>"]
    return document(title, parts, folder="the figures of every run")


def _section(lines: Sequence[Comparison], attainment_ratio: float | None) -> Iterator[str]:
    focus = next((line for line in lines if line.policy == "warmtide"), lines[-1])
    yield f'<p class="lede">{_verdict(focus, lines[0])}</p>'
    yield f"<p class=quiet>{'; '.join(_legend(lines, attainment_ratio))}.</p>"
    points = [_point(number, line, line is focus, attainment_ratio) for number, line in enumerate(lines, start=1)]
    yield scatter(points, "GPU-hours ÷ those of the fixed fleet", ".2f")
    yield _table(lines, focus, attainment_ratio)


def _legend(lines: Sequence[Comparison], attainment_ratio: float | None) -> Iterator[str]:
    yield "Up is more first tokens in time, left is fewer GPU-hours"
    if any(math.isfinite(line.cost_ratio.low) for line in lines):
        yield "thin lines are 95 % intervals over the seeds"
    if attainment_ratio is not None:
        yield "dashed ones the same policy, less and more eager"


def _verdict(one: Comparison, fixed: Comparison) -> str:
    said = f"<b>{escape(one.policy)}</b> brought {_share(one.attainment_ratio)} of the first tokens in time"
    if one is fixed:
        return said + "."
    return (
        f"{said} for {one.cost_ratio.text()} × the GPU-hours of the smallest fixed fleet, "
        f"which brought {_share(fixed.attainment_ratio)}."
    )


def _share(value: Paired) -> str:
    return value.text(".2%")


def _point(number: int, line: Comparison, is_focus: bool, attainment_ratio: float | None) -> Point:
    reached, cost = line.attainment_ratio, line.cost_ratio
    ends = []
    if math.isfinite(cost.low):
        ends.append(((cost.low, reached.mean), (cost.high, reached.mean)))
    if math.isfinite(reached.low):
        ends.append(((cost.mean, reached.low), (cost.mean, reached.high)))
    curve = tuple((cost, reached) for reached, cost in line.curve.points) if attainment_ratio is not None else ()
    return Point(
        number=number,
        policy=line.policy,
        cost=cost.mean,
        attainment_ratio=reached.mean,
        is_focus=is_focus,
        ends=tuple(ends),
        curve=curve,
    )


def _table(lines: Sequence[Comparison], focus: Comparison, attainment_ratio: float | None) -> str:
    heads = ["in time", "× fixed", "GPU-hours", "TTFT p95", "starts"]
    heads += [f"× fixed at {attainment_ratio:.0%}"] if attainment_ratio is not None else []
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = [_share(line.attainment_ratio), line.cost_ratio.text(), f"{line.gpu_hours.mean:.1f}"]
        cells += [f"{line.ttft_p95_s:.2f} s" if math.isfinite(line.ttft_p95_s) else "never", f"{line.starts.mean:.0f}"]
        if attainment_ratio is not None:
            cost = line.curve.at(attainment_ratio)
            cells.append(f"{cost:.2f}" if math.isfinite(cost) else "not reached")
        name = f'<td class="name">{badge(number, line.policy, is_focus=line is focus)} {escape(line.policy)}</td>'
        css = ' class="focus"' if line is focus else ""
        rows.append(f"<tr{css}>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    head = '<th class="name">policy</th>' + "".join(f"<th>{name}</th>" for name in heads)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
