"""A real vLLM server for the tests of this folder: started once, ended with its children. Skips where there is none."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from simulations.cluster.real_vllm import (
    ENVIRONMENT,
    HEALTHY_WITHIN_S,
    VENV_VARIABLE,
    find_venv,
    serve_command,
    write_model,
)
from simulations.replica import EngineConfig

TEST_WITHIN_S = 900  # a server's start is part of its first test; two shared cores
LIMITS = EngineConfig(
    max_num_seqs=4, max_num_batched_tokens=512, num_gpu_blocks=33, block_size_tokens=128, max_model_len_tokens=2048
)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.timeout(TEST_WITHIN_S))


@dataclass(frozen=True, slots=True)
class RealServer:
    """One server that runs."""

    url: str
    log: Path
    process: "subprocess.Popen[bytes]"


Serving = Callable[[list[str]], AbstractContextManager[RealServer]]


@pytest.fixture(scope="session")
def venv() -> Path:
    """The venv with vLLM in it. It takes minutes and a core, so it is asked for, not found by chance."""
    found = find_venv(os.environ) if os.environ.get(VENV_VARIABLE) else None
    if found is None:
        pytest.skip(f"no real vLLM: {VENV_VARIABLE} names no venv with it (tests/realvllm/install.sh makes one)")
    return found


@pytest.fixture(scope="session")
def limits() -> EngineConfig:
    """Small enough that a dozen requests queue, fill the KV cache and preempt each other."""
    return LIMITS


@pytest.fixture(scope="session")
def flags() -> list[str]:
    """The same limits as vLLM's flags."""
    return [
        f"--max-num-seqs={LIMITS.max_num_seqs}",
        f"--max-num-batched-tokens={LIMITS.max_num_batched_tokens}",
        f"--num-gpu-blocks-override={LIMITS.num_gpu_blocks}",
        "--shutdown-timeout=30",
    ]


@pytest.fixture(scope="session")
def serving(
    venv: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[list[str]], AbstractContextManager[RealServer]]:
    """`with serving(flags) as server`: a server of one's own."""
    return lambda flags: _serving(venv, flags, tmp_path_factory.mktemp("vllm"))


@pytest.fixture(scope="session")
def server(serving: Serving, flags: list[str]) -> Iterator[RealServer]:
    """One real server for all tests that do not stop it."""
    with serving(flags) as running:
        yield running


@contextmanager
def _serving(venv: Path, flags: Sequence[str], folder: Path) -> Iterator[RealServer]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = serve_command(venv, write_model(folder / "model"), host="127.0.0.1", port=port, limits=flags)
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, **ENVIRONMENT},
            start_new_session=True,
        )
    running = RealServer(f"http://127.0.0.1:{port}", folder / "server.log", process)
    try:
        _wait_healthy(running)
        yield running
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # nothing of it is awaited any more
        process.wait()


def _wait_healthy(running: RealServer) -> None:
    due_s = time.monotonic() + HEALTHY_WITHIN_S
    while time.monotonic() < due_s and running.process.poll() is None:
        try:
            if requests.get(f"{running.url}/health", timeout=2).status_code == 200:
                return
        except requests.ConnectionError:
            time.sleep(0.2)
    code, log = running.process.poll(), running.log.read_text(errors="replace")
    pytest.fail(f"vLLM is not healthy (exit code {code}):\n{log[-3000:]}")
