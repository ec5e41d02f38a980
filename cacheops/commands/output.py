"""How the commands talk: tables and lines on stdout, progress on stderr, one way to write bytes."""

import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from cacheops.stock import Action, Cause, Verb

REFRESH_S = 0.2
MIB, GIB = 1 << 20, 1 << 30


# What a plan's shorter causes mean; the others come with words of their own.
IN_WORDS = {
    Cause.TOO_YOUNG: "published less than 10 minutes ago",
    Cause.IN_USE: "a pod or process has it mounted",
    Cause.PINNED: "pinned by hand or by its ModelCache",
    Cause.ROOM_ENOUGH: "nobody asks for it, nothing else needs the room",
    Cause.WANTED: "wanted, and here",
    Cause.DISK_PRESSURE: "an unfinished fetch that nobody waits for, and room is short",
    Cause.PARTIAL_EXPIRED: "an unfinished fetch that nobody asked for in a day",
    Cause.STARTS_SOON: "a replica starts soon: into the page cache",
}


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


def actions(found: Iterable[Action], names: Callable[[str], str]) -> None:
    """What a plan does, in its order, each with its reason. `names` gives a model's name by its key."""
    lines = [
        (
            action.verb.value,
            action.cause.value,
            _growth(action),
            names(action.key or action.digest),
            action.detail or IN_WORDS.get(action.cause, ""),
        )
        for action in found
    ]
    if lines:
        rows(("DO", "WHY", "BYTES", "MODEL", "IN WORDS"), lines)
    else:
        say("nothing here, and nothing to do")


def _growth(action: Action) -> str:
    if not action.grows_bytes or action.verb is Verb.KEEP:
        return "-"
    return f"{'+' if action.grows_bytes > 0 else '-'}{size(abs(action.grows_bytes))}"


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
