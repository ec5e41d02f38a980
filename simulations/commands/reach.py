"""How far a measured profile may be asked: no further than it was measured, unless told so."""

import argparse
from collections.abc import Callable
from pathlib import Path

from simulations.calibration.judge import coverage_of_records
from simulations.calibration.profile_file import read_profile
from simulations.compare import Row
from simulations.replica import PROFILES

Check = Callable[[Row], None]


def add_reach(parser: argparse.ArgumentParser) -> None:
    """The way out."""
    parser.add_argument(
        "--extrapolate", action="store_true", help="also where a measured profile is asked for more than was measured"
    )


def reach_of(options: argparse.Namespace) -> Check:
    """Raises ExtrapolationError for a row whose busiest replica had more to do than any that was measured."""
    if options.extrapolate or options.profile is None or options.profile in PROFILES:
        return lambda row: None
    coverage = read_profile(Path(options.profile)).coverage
    return lambda row: coverage.check(coverage_of_records(row.outcome.requests))
