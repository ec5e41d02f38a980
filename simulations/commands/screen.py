"""A table that grows while the work goes on: rows on stdout as they come, a bar on stderr below them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from simulations.compiled.notice import told_of_compiling

FIRST_USE = "compiling, once"  # for this machine


@dataclass(frozen=True, slots=True)
class Column:
    """A heading and the width it keeps; text is left-aligned, numbers right."""

    heading: str
    width: int
    is_text: bool = False

    def place(self, value: str) -> str:
        """A value, or the heading, in its column."""
        return value.ljust(self.width) if self.is_text else value.rjust(self.width)


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a command writes while it works."""

    bar: Progress
    task: TaskID

    def tell(self, name: str, done: float) -> None:
        """What is under way, and how much of the whole is done."""
        self.bar.update(self.task, description=name, completed=done)

    def row(self, columns: Sequence[Column], values: Sequence[str]) -> None:
        """One line of the table, at once: who interrupts keeps it."""
        self.line("  ".join(column.place(value) for column, value in zip(columns, values, strict=True)).rstrip())

    def head(self, columns: Sequence[Column]) -> None:
        """The headings, above a rule."""
        self.row(columns, [column.heading for column in columns])
        self.line("─" * (sum(column.width + 2 for column in columns) - 2))

    def line(self, text: str) -> None:
        """A line of output; the bar makes room, also where both share a terminal."""
        self.bar.stop()
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
        self.bar.start()


@contextmanager
def screen(total: float | None, first: str) -> Iterator[Screen]:
    """A bar for as long as the work takes, without an end where none is known; it leaves nothing behind."""
    columns = (TextColumn("{task.description:<16}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not console.is_terminal,
    ) as bar:
        task, before = bar.add_task(first, total=total), [first]

        def begins() -> None:
            before.append(bar.tasks[0].description)
            bar.update(task, description=FIRST_USE)

        with told_of_compiling(begins, lambda: bar.update(task, description=before.pop())):
            yield Screen(bar, task)
