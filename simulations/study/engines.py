"""Who carries trials out: this process, several on this machine, or a Ray cluster. The figures are the same."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from enum import StrEnum
from typing import Protocol, TypeVar

from simulations.errors import SimulationError, UsageError
from simulations.interrupts import end_on_interrupt, interrupts_held

from .trial import Figures, Trial, carry_out

Given = TypeVar("Given")
Made = TypeVar("Made")


class Spread(Protocol):
    """As `map`, by whoever does the work."""

    def __call__(self, make: Callable[[Given], Made], given: Iterable[Given], /) -> Iterable[Made]: ...


class Engine(StrEnum):
    """Where trials run."""

    PROCESS = "process"
    RAY = "ray"


def carry_out_all(trials: Sequence[Trial], *, jobs: int = 1, engine: Engine = Engine.PROCESS) -> Iterator[Figures]:
    """Every trial's figures, in the order in which they are done; an interrupt ends what is under way."""
    if engine is Engine.RAY:
        return _on_ray(trials)
    return map(carry_out, trials) if jobs == 1 else _in_processes(trials, jobs)


@contextmanager
def spread_over(jobs: int) -> Iterator[Spread]:
    """Work for so many processes, in the order in which it was given; an interrupt ends what is under way."""
    if jobs == 1:
        yield map
        return
    with _pool(jobs) as pool:
        yield pool.map


def _in_processes(trials: Sequence[Trial], jobs: int) -> Iterator[Figures]:
    with _pool(min(jobs, len(trials))) as pool:
        for done in as_completed([pool.submit(carry_out, trial) for trial in trials]):
            yield done.result()


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    # Spawned: a fork would copy threads' locks, of numba's compiler among others, in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=end_on_interrupt)
    try:
        with interrupts_held():
            for _ in range(jobs):
                pool.submit(int)  # a process starts with each
        yield pool
    except BrokenProcessPool as exc:  # killed: most of all where memory ran out
        raise SimulationError("a process of --jobs was killed; fewer of them need less memory") from exc
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _on_ray(trials: Sequence[Trial]) -> Iterator[Figures]:
    """On the cluster that RAY_ADDRESS names, or one of this machine's cores."""
    try:
        import ray
    except ModuleNotFoundError as exc:
        raise UsageError("--engine ray needs Ray, which is not installed: pip install '.[sim,ray]'") from exc
    ray.init(ignore_reinit_error=True, log_to_driver=False, configure_logging=False, include_dashboard=False)
    try:
        remote = ray.remote(carry_out)
        waiting = [remote.remote(trial) for trial in trials]
        while waiting:
            done, waiting = ray.wait(waiting, num_returns=1)
            yield ray.get(done[0])
    finally:
        ray.shutdown()
