"""Processes of the demo: their words are kept, their death is told, none is left behind."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from metrics.clock import WallClock
from simulations.demo.children import Child, Children
from simulations.errors import DemoError

LIVES = "import time; print('up', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
DIES = "print('first word'); raise SystemExit('last word')"


async def up(child: Child) -> None:
    async with asyncio.timeout(20):
        while "up" not in child.log.read_text():
            await WallClock().sleep(0.01)


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_children_end_with_the_block(tmp_path: Path) -> None:
    async with Children(tmp_path) as children, asyncio.TaskGroup() as guards:
        first = await children.start("first", ["-c", LIVES], guards)
        second = await children.start("second", ["-c", LIVES], guards)
        await up(first)
        await up(second)
        children.release()

    assert is_gone(first.process.pid)
    assert is_gone(second.process.pid)


async def test_a_deaf_child_is_killed_after_the_grace(tmp_path: Path) -> None:
    async with Children(tmp_path, grace_s=0.1) as children, asyncio.TaskGroup() as guards:
        child = await children.start("deaf", ["-c", DEAF], guards)
        await up(child)
        children.release()

    assert child.process.returncode == -9


async def test_a_child_that_dies_is_told_with_its_last_words_and_takes_the_others_along(tmp_path: Path) -> None:
    others = []

    async def run() -> None:
        async with Children(tmp_path) as children, asyncio.TaskGroup() as guards:
            others.append(await children.start("other", ["-c", LIVES], guards))
            await up(others[0])
            await children.start("weak", ["-c", DIES], guards)
            await WallClock().sleep(60)

    with pytest.raises(BaseExceptionGroup) as caught:
        await run()

    [error] = caught.value.exceptions
    assert isinstance(error, DemoError)
    assert "the weak ended with 1" in str(error)
    assert "first word\nlast word" in str(error)
    assert is_gone(others[0].process.pid)


async def test_a_failure_elsewhere_ends_the_children_too(tmp_path: Path) -> None:
    started = []

    async def run() -> None:
        async with Children(tmp_path) as children, asyncio.TaskGroup() as guards:
            started.append(await children.start("child", ["-c", LIVES], guards))
            await up(started[0])
            raise ValueError("a bug")

    with pytest.raises(BaseExceptionGroup):
        await run()

    assert is_gone(started[0].process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux's")
async def test_a_killed_demo_leaves_no_children_behind(tmp_path: Path) -> None:
    script = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from simulations.demo.children import Children\n"
        "async def main():\n"
        "    async with Children(Path(sys.argv[1])) as children, asyncio.TaskGroup() as guards:\n"
        f"        child = await children.start('child', ['-c', {LIVES!r}], guards)\n"
        "        while 'up' not in child.log.read_text():\n"
        "            await asyncio.sleep(0.01)\n"
        "        print(child.process.pid, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )

    parent = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        str(tmp_path),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    out, _ = await parent.communicate()

    assert parent.returncode == -9
    async with asyncio.timeout(20):
        while not is_gone(int(out)):
            await WallClock().sleep(0.01)
