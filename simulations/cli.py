"""`warmtide sim …`: what a policy would have done on this traffic, offline and in seconds.

This file knows names and one line of help; a command's module is loaded when it is called, so that none
pays for the libraries of another. A new command is a module in `simulations.commands` and a line in COMMANDS.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn, Protocol

from simulations.commands.unheard import leaving_unheard
from simulations.errors import INTERRUPTED, SimulationError

COMMANDS = {
    "run": "one policy beside the static fleet, with every change of its number",
    "compare": "policies side by side: attainment, latency, GPU-hours",
    "tune": "a ScalingPolicy for this traffic, judged on other traffic",
    "oracle": "what hindsight would have paid: a bound that no policy can beat",
    "replay": "a policy on the past of a service, beside what was done",
    "scenarios": "the scenarios that ship, and their files",
    "trace": "inspect, convert, resample, scale, splice and plot recorded traffic",
    "calibrate": "what a real server did, as a profile that simulates it",
}


class Command(Protocol):
    """What a module in `simulations.commands` offers."""

    def add(self, parser: argparse.ArgumentParser) -> None:
        """Name the options."""

    def run(self, options: argparse.Namespace) -> int:
        """Do it; a `SimulationError` is told in one line and is exit code 2."""
        ...


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in a line, not below fourteen lines of options."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str]) -> int:
    """0: done. 2: called wrongly or a bad trace. 130: interrupted; what was done by then stands on screen."""
    try:
        parser, called, command = _parser(arguments)
        if not arguments:
            parser.print_help(sys.stderr)
            return 2
        options, unknown = parser.parse_known_args(arguments)
        if command is None:
            parser.error(f"expected a command first, got {arguments[0]}")
        if unknown:
            called.error(f"there is no {' '.join(unknown)}")
        with leaving_unheard(options):
            return command.run(options)
    except SimulationError as exc:
        sys.stderr.write(f"warmtide sim: {exc}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("warmtide sim: interrupted\n")
        return INTERRUPTED


def _parser(arguments: Sequence[str]) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser, Command | None]:
    """The whole parser, that of the one command that was called with its options, and its module."""
    parser = _Parser(
        prog="warmtide sim", description="What a policy would have done on this traffic, offline and in seconds."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    called: argparse.ArgumentParser = parser
    command: Command | None = None
    for name, help_line in COMMANDS.items():
        options = commands.add_parser(name, help=help_line, description=f"{help_line[0].upper()}{help_line[1:]}.")
        if arguments and arguments[0] == name:
            called, command = options, import_module(f"simulations.commands.{name}")
            command.add(options)
    return parser, called, command


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
