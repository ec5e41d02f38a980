"""Our engine beside vLLM's own scheduler: the same requests, the same batches, step by step."""

from pathlib import Path

from simulations.calibration.scheduling import driven_batches, first_difference, our_batches, random_world
from simulations.cluster.real_vllm import write_model

DRIVER = Path(__file__).with_name("drive_scheduler.py")
WORLDS = 200  # a thousand: `make bench NAME=sim-scheduler`


def test_every_batch_is_the_one_that_vllm_would_have_run(venv: Path, tmp_path: Path) -> None:
    worlds = [random_world(seed) for seed in range(WORLDS)]

    theirs = driven_batches([venv / "bin" / "python", DRIVER, write_model(tmp_path / "model")], worlds)

    for seed, (world, batches) in enumerate(zip(worlds, theirs, strict=True)):
        assert first_difference(our_batches(world), batches) == "", f"world {seed}: {world.limits}"
    together = [batch for batches in theirs for batch in batches]
    assert sum(bool(batch.preempted) for batch in together) > WORLDS  # else the worlds would show little
    assert sum(len(batch.tokens) > 1 for batch in together) > 10 * WORLDS
