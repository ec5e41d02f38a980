"""Ctrl-C reaches the processes of `--jobs`, too: they end at once and in silence, also while they start.

It imports next to nothing: a process that starts comes here before it loads what it works with.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Processes that start now inherit it: none is interrupted before `end_on_interrupt`, to say where it was."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_on_interrupt() -> None:
    """There is nothing to tidy up, and nothing to say; what was held ends it now."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
