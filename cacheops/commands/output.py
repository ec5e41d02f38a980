"""How the commands talk: tables and lines on stdout, progress on stderr, one way to write bytes."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

REFRESH_S = 0.2
MIB, GIB = 1 << 20, 1 << 30


def size(count_bytes: int) -> str:
    """Bytes for people."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if count_bytes >= unit:
            return f"{count_bytes / unit:.2f} {name}"
    return f"{count_bytes / 1024:.1f} KiB"


def say(text: str) -> None:
    """One line, as long as it is: a terminal breaks it, a file or a pipe cuts nothing."""
    sys.stdout.write(f"{text}\n")


def rows(columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    """A table whose columns are as wide as they must be."""
    table = [columns, *lines]
    widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
    for line in table:
        say("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


@contextmanager
def progress(name: str, total_bytes: int, done_bytes: Callable[[], int], stop: threading.Event) -> Iterator[None]:
    """A bar on stderr, where that is a terminal, while something runs; Ctrl-C ends it in good order."""
    with _interruptible(stop):
        if not sys.stderr.isatty():
            yield
            return
        with _bar(name, total_bytes, done_bytes):
            yield


@contextmanager
def _bar(name: str, total_bytes: int, done_bytes: Callable[[], int]) -> Iterator[None]:
    # Loaded for people only: a tenth of a second, and as many wake-ups per second.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total_bytes)
        over = threading.Event()

        def follow() -> None:
            while not over.wait(REFRESH_S):
                bar.update(task, completed=done_bytes())

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()


@contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
