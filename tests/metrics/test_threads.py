"""A blocking call beside the loop: its result, its error, and an end that does not wait for it."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from metrics.threads import in_thread

ROOT = Path(__file__).parents[2]
# A call that hangs for a minute, given up after a moment; then the process must end.
GIVEN_UP = """
import asyncio, threading
from metrics.threads import in_thread

async def main():
    try:
        async with asyncio.timeout(0.1):
            await in_thread(lambda: threading.Event().wait(3600))
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""


async def test_the_result_comes_from_another_thread() -> None:
    assert await in_thread(threading.get_ident) != threading.get_ident()


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_the_loop_goes_on_meanwhile() -> None:
    may_end = threading.Event()

    call = asyncio.create_task(in_thread(lambda: may_end.wait(30)))
    await asyncio.sleep(0)
    assert not call.done()
    may_end.set()

    assert await call is True


async def test_a_call_that_was_given_up_ends_without_an_audience() -> None:
    may_end, ended = threading.Event(), threading.Event()

    def call() -> None:
        may_end.wait(30)
        ended.set()

    task = asyncio.create_task(in_thread(call))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    may_end.set()

    assert await asyncio.to_thread(ended.wait, 30)
    await asyncio.sleep(0)  # its result arrives, and nobody wants it


def test_a_hanging_call_does_not_hold_up_the_exit() -> None:
    done = subprocess.run(
        [sys.executable, "-c", GIVEN_UP], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )

    assert (done.stdout, done.stderr) == ("given up\n", "")
