"""`warmtide sim scenarios`: what ships, where its traffic comes from, and how to write one's own."""

import argparse
import inspect
import sys

from simulations.errors import UsageError
from simulations.scenarios import NAMES, TOGETHER, Scenario, load_any, shipped_text
from simulations.scenarios.draw import Generated


def add(parser: argparse.ArgumentParser) -> None:
    """A name, or none."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this one's file, to begin one's own with")
    parser.add_argument("--parts", action="store_true", help="print what else a file may say: nodes, faults, …")


def run(options: argparse.Namespace) -> int:
    """A few lines for each, or the file of one, or all parts."""
    if options.parts:
        sys.stdout.write("\n\n".join(part_texts()) + "\n")
        return 0
    if options.name is None:
        for name in (*NAMES, *TOGETHER):
            sys.stdout.write(_told(name))
        return 0
    names = (*NAMES, *TOGETHER)
    if options.name not in names:
        raise UsageError(f"no scenario named {options.name!r}; there are: {', '.join(names)}")
    sys.stdout.write(shipped_text(options.name))
    return 0


def part_texts() -> list[str]:
    """Of each part of a scenario file that may be left out: a sentence, and YAML with all its fields."""
    from simulations.scenarios import nodes, sensors, serving, startup  # pydantic: not for those who only list names

    return [inspect.getdoc(part) or "" for part in (serving, startup, nodes, sensors)]


def _told(name: str) -> str:
    found = load_any(name)
    services = (found,) if isinstance(found, Scenario) else found.services
    lines = [f"{name:<16}{found.says}"]
    sources = {
        figures.source: figures.licence
        for service in services
        if isinstance(service.traffic, Generated)
        for figures in (service.traffic.rates, service.traffic.lengths)
    }
    lines += [f"{'':<16}from figures of {source} ({licence})" for source, licence in sources.items()]
    return "\n".join(lines) + "\n"
