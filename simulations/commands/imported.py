"""`--import hpa.yaml|scaledobject.yaml`: the user's own autoscaling object among the policies."""

import argparse
import sys
from pathlib import Path

from simulations.errors import UsageError
from simulations.imports.choose import ENDINGS, read_object
from simulations.world import Setting


def add_import(parser: argparse.ArgumentParser) -> None:
    """May be given more than once."""
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE",
        help="your own HorizontalPodAutoscaler (autoscaling/v2) or KEDA ScaledObject, as a policy",
    )


def imported_names(options: argparse.Namespace, setting: Setting) -> tuple[str, ...]:
    """What they are called among the policies; refuses what cannot be simulated, and says what has no effect."""
    for name in options.imports:
        if not name.endswith(ENDINGS):
            raise UsageError(f"--import {name}: a file that ends in {', '.join(ENDINGS)} is expected")
        imported = read_object(Path(name), setting)
        for note in imported.notes:
            sys.stderr.write(f"warmtide sim: {name}: {note}\n")
    return tuple(options.imports)
