"""Who waits for machine code is told so: whoever comes first, and whoever is the first to need one more kernel."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .jit import IS_COMPILED

if IS_COMPILED:
    from numba.core.event import Event, Listener, install_listener

    class _Outermost(Listener):
        """Of compiling within compiling, which calls for more of it."""

        def __init__(self, begins: Callable[[], None], ends: Callable[[], None]) -> None:
            self._begins, self._ends, self._under_way = begins, ends, 0

        def on_start(self, event: Event) -> None:
            self._under_way += 1
            if self._under_way == 1:
                self._begins()

        def on_end(self, event: Event) -> None:
            self._under_way -= 1
            if self._under_way == 0:
                self._ends()


@contextmanager
def told_of_compiling(begins: Callable[[], None], ends: Callable[[], None]) -> Iterator[None]:
    """Both are called around whatever is compiled meanwhile; what was kept from an earlier run is not."""
    if not IS_COMPILED:
        yield
        return
    with install_listener("numba:compile", _Outermost(begins, ends)):
        yield
