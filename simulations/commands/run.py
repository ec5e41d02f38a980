"""`warmtide sim run`: one policy beside the static fleet, with every change of its number."""

import argparse
import sys

from simulations.commands.compare import show
from simulations.commands.setting import add_setting, make_setting, policy_names
from simulations.errors import INTERRUPTED
from simulations.policies import NAMES


def add(parser: argparse.ArgumentParser) -> None:
    """The policy, and what it is set to."""
    parser.add_argument("--policy", default="warmtide", metavar="NAME", help=f"one of {', '.join(NAMES)}")
    add_setting(parser)


def run(options: argparse.Namespace) -> int:
    """The table of two rows, then the changes."""
    rows, is_whole = show(make_setting(options), policy_names(options.policy))
    if not is_whole:
        return INTERRUPTED
    for at_s, replicas in rows[-1].outcome.changes:
        sys.stdout.write(f"{at_s:.0f} s: {replicas} replicas\n")
    return 0
