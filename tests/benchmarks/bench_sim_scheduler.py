"""Batches of our engine beside those of vLLM's own scheduler, on a thousand random worlds; differences must be none.

Needs the venv that `tests/realvllm/install.sh` makes. A world has 12 requests, a few blocks, chunked prefill,
preemption and, in half of them, a prefix cache with beginnings in common.
"""

import os
import tempfile
from pathlib import Path

from figures import Figure, MissingPartError

from simulations.calibration.scheduling import driven_batches, first_difference, our_batches, random_world
from simulations.cluster.real_vllm import find_venv, write_model

WORLDS = 1000
DRIVER = Path(__file__).parents[1] / "realvllm" / "drive_scheduler.py"


def run() -> list[Figure]:
    venv = find_venv(os.environ)
    if venv is None:
        raise MissingPartError("a real vLLM (make vllm)")
    worlds = [random_world(seed) for seed in range(WORLDS)]
    with tempfile.TemporaryDirectory() as folder:
        theirs = driven_batches([venv / "bin" / "python", DRIVER, write_model(Path(folder))], worlds)
    differing = [
        found
        for world, batches in zip(worlds, theirs, strict=True)
        if (found := first_difference(our_batches(world), batches))
    ]
    for found in differing[:5]:
        print(found)
    steps = [batch for batches in theirs for batch in batches]
    caching = sum(world.limits.caches_prefixes for world in worlds)
    return [
        Figure(name="sim_scheduler_worlds", value=len(theirs), unit="worlds", bar=WORLDS),
        Figure(name="sim_scheduler_worlds_that_differ", value=len(differing), unit="worlds", bar=0, better="lower"),
        Figure(name="sim_scheduler_steps", value=len(steps), unit="steps"),
        Figure(
            name="sim_scheduler_steps_that_preempt", value=sum(bool(batch.preempted) for batch in steps), unit="steps"
        ),
        Figure(name="sim_scheduler_worlds_with_prefix_cache", value=caching, unit="worlds"),
    ]
