"""One page of several services on the same nodes: what came of all of them, then a section for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from simulations.world import Shared

from .notes import nodes_note
from .report import Page, Shown, document, sections, verdict

COURSES_MAX = 40  # of some 30 kB each: the page stays below two megabytes, of 50 services, too


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicesPage:
    """What the page is about."""

    source: str
    shown: Sequence[Shown[Shared]]
    services: Sequence[Page]  # the most important first; their `source` is their name


def render_services(page: ServicesPage) -> str:
    """The whole page."""
    title = f"{page.source}: {len(page.services)} services, {len(page.shown)} policies"
    bounded = [replace(one, courses_max=COURSES_MAX // len(page.services)) for one in page.services]
    names = [(f"service-{number}", escape(one.source)) for number, one in enumerate(page.services, start=1)]
    links = "".join(f'<li><a href="#{anchor}">{name}</a></li>' for anchor, name in names)
    return document(
        title,
        (
            f"<h1>{escape(title)} on the same nodes</h1>",
            f'<p class="lede">{_verdict(page)}</p>',
            f'<ul class="facts">{links}</ul>',
            "<h2>All services together</h2>",
            "<p class=quiet>First tokens in time, of each service; what waited are replicas, for a node.</p>",
            _table(page),
            *(
                f'<section id="{anchor}"><h1>{name}</h1>{"".join(sections(one))}</section>'
                for (anchor, name), one in zip(names, bounded, strict=True)
            ),
        ),
    )


def _focus(page: ServicesPage) -> Shown[Shared]:
    return page.shown[page.services[0].focus.number - 1]


def _verdict(page: ServicesPage) -> str:
    fleet = "fixed fleets that each service would hold if it were alone"
    return verdict(_focus(page), page.shown[0], what="of the first tokens of all services in time", fleet=fleet)


def _table(page: ServicesPage) -> str:
    names = "".join(f"<th>{escape(one.source)}</th>" for one in page.services)
    head = f'<th class="name">policy</th>{names}<th>all in time</th><th>GPU-hours</th><th>× fixed</th><th>waited</th>'
    rows = "".join(_row(one, is_focus=one is _focus(page)) for one in page.shown)
    notes = "".join(
        f"<li>{escape(one.policy)}: {escape('; '.join(map(nodes_note, one.outcome.nodes)))}</li>"
        for one in page.shown
        if one.outcome.nodes
    )
    table = f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f'{table}<ul class="notes">{notes}</ul>'


def _row(one: Shown[Shared], *, is_focus: bool) -> str:
    waited_hours = sum(outcome.waited_hours for outcome in one.outcome.outcomes)
    cells = (
        *(f"{outcome.attainment_ratio:.2%}" for outcome in one.outcome.outcomes),
        f"{one.outcome.attainment_ratio:.2%}",
        f"{one.outcome.gpu_hours:.1f}",
        f"{one.cost_ratio:.2f}",
        f"{waited_hours:.1f} h",
    )
    name = f'<td class="name">{escape(one.policy)}</td>'
    css = ' class="focus"' if is_focus else ""
    return f"<tr{css}>{name}" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
