"""Who carries trials out: this process, several on this machine, or a Ray cluster. The figures are the same."""

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from enum import StrEnum

from simulations.errors import UsageError

from .trial import Figures, Trial, carry_out


class Engine(StrEnum):
    """Where trials run."""

    PROCESS = "process"
    RAY = "ray"


def carry_out_all(trials: Sequence[Trial], *, jobs: int = 1, engine: Engine = Engine.PROCESS) -> Iterator[Figures]:
    """Every trial's figures, in the order in which they are done; an interrupt ends what is under way."""
    if engine is Engine.RAY:
        return _on_ray(trials)
    return map(carry_out, trials) if jobs == 1 else _in_processes(trials, jobs)


def _in_processes(trials: Sequence[Trial], jobs: int) -> Iterator[Figures]:
    # Spawned: a fork would copy threads' locks, of numba's compiler among others, in whatever state they are.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(max_workers=jobs, mp_context=context, initializer=_end_on_interrupt)
    try:
        for done in as_completed([pool.submit(carry_out, trial) for trial in trials]):
            yield done.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _end_on_interrupt() -> None:
    """Ctrl-C reaches the children, too; there is nothing in them to tidy up, and nothing to say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
