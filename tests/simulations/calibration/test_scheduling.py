"""Worlds for the comparison with another scheduler: ours ends them, and a difference is found and named."""

from dataclasses import replace

from simulations.calibration.scheduling import first_difference, our_batches, random_world


def test_worlds_end_and_hold_what_they_are_for() -> None:
    batches = [batch for seed in range(40) for batch in our_batches(random_world(seed))]

    assert sum(len(batch.finished) for batch in batches) == 40 * 12
    assert any(batch.preempted for batch in batches)
    assert any(count > 1 for batch in batches for count in batch.tokens.values())


def test_the_same_seed_is_the_same_world() -> None:
    assert random_world(3) == random_world(3) != random_world(4)


def test_the_first_step_that_differs_is_named() -> None:
    batches = our_batches(random_world(5))

    assert first_difference(batches, batches) == ""
    changed = [*batches[:3], replace(batches[3], preempted=("r00",)), *batches[4:]]
    assert first_difference(batches, changed).startswith("step 3: ours Batch(")
    assert first_difference(batches, batches[:-1]) == f"ours took {len(batches)} steps, theirs {len(batches) - 1}"
