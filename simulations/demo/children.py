"""Processes that live as long as the demo and not longer: own groups, own logs, stopped whatever happens.

A child is in a process group of its own, so a Ctrl-C in the terminal reaches the demo alone, which then
stops its children in order. Should the demo be killed, Linux ends them (PR_SET_PDEATHSIG).
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from simulations.errors import DemoError

log = logging.getLogger(__name__)

STOP_GRACE_S = 6.0  # the controller promises to end within five
LAST_WORDS_BYTES = 2000  # of a log, in the error of a child that died
PR_SET_PDEATHSIG = 1  # linux/prctl.h


@dataclass(frozen=True, slots=True)
class Child:
    """One running child."""

    name: str
    process: asyncio.subprocess.Process
    log: Path

    def last_words(self) -> str:
        """The end of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - LAST_WORDS_BYTES))
            return file.read().decode(errors="replace").strip() or "(it said nothing)"


class Children:
    """Starts children and stops them all, the last one first, when the block ends."""

    def __init__(self, folder: Path, *, grace_s: float = STOP_GRACE_S) -> None:
        self._folder = folder
        self._grace_s = grace_s
        self._children: list[Child] = []
        self._guards: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        told_again: asyncio.CancelledError | None = None
        for child in reversed(self._children):
            try:
                await _stop(child, self._grace_s)
            except asyncio.CancelledError as exc:
                told_again = exc
        if told_again is not None:
            raise told_again

    async def start(
        self,
        name: str,
        arguments: Sequence[str],
        guards: asyncio.TaskGroup,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Run `python ARGUMENTS`; what it says goes to NAME.log. Should it end by itself, the group fails."""
        path = self._folder / f"{name}.log"
        with path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=os.environ | (environment or {}),
                start_new_session=True,
                preexec_fn=_end_with_parent(),  # safe: the demo has one thread, and prctl allocates nothing
            )
        child = Child(name, process, path)
        self._children.append(child)
        self._guards.append(guards.create_task(_must_live(child)))
        return child

    def release(self) -> None:
        """From now on a child may end."""
        for guard in self._guards:
            guard.cancel()


async def _must_live(child: Child) -> None:
    code = await child.process.wait()
    raise DemoError(f"the {child.name} ended with {code}; the end of {child.log}:\n{child.last_words()}")


async def _stop(child: Child, grace_s: float) -> None:
    """SIGTERM; SIGKILL after the grace, or at once when the demo is told to stop a second time."""
    if child.process.returncode is not None:
        return
    _signal(child, signal.SIGTERM)
    try:
        async with asyncio.timeout(grace_s):
            await child.process.wait()
    except TimeoutError:
        log.warning("the %s did not end within %g s and was killed", child.name, grace_s)
    finally:
        if child.process.returncode is None:
            _signal(child, signal.SIGKILL)
            await child.process.wait()


def _signal(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.process.pid, number)


def _end_with_parent() -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
