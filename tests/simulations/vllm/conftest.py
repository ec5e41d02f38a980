"""A client, emulated servers for the length of a test, and a way to wait for what will be."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from simulations.cluster.vllm import ServerOptions, VLLMEmulator, serving
from simulations.replica import EngineConfig, StepTimes

Serve = Callable[..., Awaitable[VLLMEmulator]]
WAIT_S = 20.0  # far beyond what anything here takes, below the test's own limit
SMALL = EngineConfig(
    max_num_seqs=8, max_num_batched_tokens=512, num_gpu_blocks=256, block_size_tokens=16, max_model_len_tokens=2048
)
QUICK = StepTimes(base_s=2e-4, prefill_token_s=1e-7, decode_sequence_s=1e-6, kv_token_s=1e-10)
FROZEN = StepTimes(base_s=1e6, prefill_token_s=0, decode_sequence_s=0, kv_token_s=0)  # its first step never ends


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=WAIT_S)) as session:
        yield session


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """`await serve(**options)`: a small quick server on a free loopback port."""
    async with AsyncExitStack() as stack:

        async def start(**options: Any) -> VLLMEmulator:
            settings = {"engine": SMALL, "step_times": QUICK} | options
            return await stack.enter_async_context(serving(ServerOptions(**settings)))

        yield start


@pytest.fixture
def frozen() -> StepTimes:
    return FROZEN


@pytest.fixture
def small() -> EngineConfig:
    return SMALL


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Wait until a condition holds; the bound only ends a test that fails."""

    async def wait(holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not await holds():  # noqa: ASYNC110 - what is waited for lies behind HTTP and sets no event
                await asyncio.sleep(0.005)

    return wait


@pytest.fixture
def events() -> Callable[[str], list[Any]]:
    """JSON of every server-sent event of a stream that ended as it should."""

    def read(text: str) -> list[Any]:
        *lines, last = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
        assert last == "[DONE]"
        return [json.loads(line) for line in lines]

    return read
