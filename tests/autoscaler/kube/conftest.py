"""An API server stand-in on loopback, and a client of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from autoscaler.kube.client import KubeClient
from simulations.cluster.apiserver.server import ApiServer

Eventually = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
async def server() -> AsyncIterator[ApiServer]:
    async with ApiServer() as running:
        yield running


@pytest.fixture
async def client(server: ApiServer, tmp_path: Path) -> AsyncIterator[KubeClient]:
    async with KubeClient.from_config(server.write_kubeconfig(tmp_path / "kubeconfig")) as opened:
        yield opened


@pytest.fixture
def eventually() -> Eventually:
    """Wait for a condition, at most ten seconds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event to await
                await asyncio.sleep(0.01)

    return wait
