"""The emulator as a process: ready, SIGTERM, exit code."""

import asyncio
import signal
import socket
import sys
from typing import Any

import pytest

from simulations.cluster.vllm.__main__ import main

pytestmark = pytest.mark.cluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
async def process(client: Any, until: Any) -> Any:
    """A server process that answers, and its URL."""
    port = free_port()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "simulations.cluster.vllm", "--host", "127.0.0.1", "--port", str(port)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        try:
            async with client.get(f"{url}/health") as response:
                return bool(response.status == 200)
        except OSError:
            return False

    try:
        await until(answers)
        yield child, url
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def test_a_process_answers_and_on_sigterm_aborts_and_ends_with_0(process: Any, client: Any) -> None:
    child, url = process
    body = {"prompt": [1] * 50, "max_tokens": 4000, "ignore_eos": True, "stream": True}

    async with client.post(f"{url}/v1/completions", json=body) as response:
        await response.content.readline()
        child.send_signal(signal.SIGTERM)
        text = await response.text()
    code = await child.wait()

    assert '"finish_reason": "abort"' in text
    assert code == 0


def test_an_address_that_is_taken_ends_with_1_and_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        code = main(["--host", "127.0.0.1", "--port", str(port)])

    assert code == 1
    assert f"m cannot listen at 127.0.0.1:{port}" in caplog.text


def test_bad_arguments_end_with_2_and_say_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--port", "http"])

    assert code == 2
    assert "--port" in capsys.readouterr().err
