"""`warmtide sim scenarios`: what ships, where its traffic comes from, and how to write one's own."""

import argparse
import sys
from importlib import resources

from simulations.errors import UsageError
from simulations.scenarios import NAMES, load_scenario
from simulations.scenarios.draw import Generated


def add(parser: argparse.ArgumentParser) -> None:
    """A name, or none."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="print this one's file, to begin one's own with")


def run(options: argparse.Namespace) -> int:
    """A few lines for each, or the file of one."""
    if options.name is None:
        for name in NAMES:
            sys.stdout.write(_told(name))
        return 0
    if options.name not in NAMES:
        raise UsageError(f"no scenario named {options.name!r}; there are: {', '.join(NAMES)}")
    file = resources.files("simulations.scenarios") / "files" / f"{options.name}.yaml"
    sys.stdout.write(file.read_text(encoding="utf-8"))
    return 0


def _told(name: str) -> str:
    scenario = load_scenario(name)
    lines = [f"{name:<16}{scenario.says}"]
    if isinstance(scenario.traffic, Generated):
        traffic = scenario.traffic
        sources = {figures.source: figures.licence for figures in (traffic.rates, traffic.lengths)}
        lines += [f"{'':<16}from figures of {source} ({licence})" for source, licence in sources.items()]
    return "\n".join(lines) + "\n"
