"""Output that nobody reads any more, as of `… | head -1`, where a command still has files to leave."""

import io
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

LEAVING = ("out", "csv", "picture", "slo")  # options of files to write, and of a verdict in the exit code


class _Unheard(io.FileIO):
    """Who reads may stop; what is written then goes nowhere."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes


@contextmanager
def leaving_unheard(options: Namespace) -> Iterator[None]:
    """A command that has nothing to leave ends with its reader; another one goes on to its end."""
    has_to_leave = any(getattr(options, name, None) is not None for name in LEAVING)
    is_replaced = sys.stdout is not sys.__stdout__  # who did so reads it to the end
    if not has_to_leave or is_replaced:
        yield
        return
    known = sys.stdout
    known.flush()
    pipe = io.BufferedWriter(_Unheard(known.fileno(), "wb", closefd=False))
    with io.TextIOWrapper(pipe, encoding=known.encoding, line_buffering=known.isatty()) as text, redirect_stdout(text):
        yield
