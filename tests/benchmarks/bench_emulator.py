"""What ten emulated servers in one event loop cost: 20 requests/s of 200 tokens in all, scraped every 2 s.

The clients are a process of their own; the figure is the CPU time of the servers' process alone, per
second of real time. A run in which an answer was short or late would say nothing, so it fails.
"""

import asyncio
import itertools
import sys
import time

import aiohttp
from figures import Figure

from simulations.cluster.vllm import ServerOptions, VLLMEmulator

SERVERS = 10
REQUESTS_PER_S = 20.0
PROMPT_TOKENS = 1000
OUTPUT_TOKENS = 200
SCRAPE_PERIOD_S = 2.0
SECONDS = 12.0
BAR = 0.6  # of a core: what the demo can spare for its servers on two cores


def run() -> list[Figure]:
    return asyncio.run(measure())


async def measure() -> list[Figure]:
    """Serve while a client process sends its load."""
    async with asyncio.TaskGroup() as tasks:
        servers = [VLLMEmulator(ServerOptions(stream_interval_tokens=16), tasks) for _ in range(SERVERS)]
        for server in servers:
            await server.start("127.0.0.1", 0)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, __file__, *(server.url for server in servers)), stdout=asyncio.subprocess.PIPE
        )
        used_s, wall_s = time.process_time(), time.monotonic()
        output, _ = await child.communicate()
        used_s, wall_s = time.process_time() - used_s, time.monotonic() - wall_s
        for server in servers:
            await server.kill()
    if child.returncode != 0:
        raise RuntimeError(f"the clients ended with {child.returncode}")
    requests, pages = map(int, output.split())
    return [
        Figure(name="emulator_cpu_cores", value=used_s / wall_s, unit="cores", bar=BAR, better="lower"),
        Figure(name="emulator_cpu_per_request", value=1e3 * used_s / requests, unit="ms"),
        Figure(name="emulator_requests", value=requests, unit="requests"),
        Figure(name="emulator_pages", value=pages, unit="pages"),
    ]


async def send(urls: list[str]) -> None:
    """The client process: an open loop of requests and scrapes; prints how many of each."""
    targets = itertools.cycle(urls)
    body = {"prompt": [7] * PROMPT_TOKENS, "max_tokens": OUTPUT_TOKENS, "ignore_eos": True, "stream": True}
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30.0)) as client:

        async def ask(url: str, number: int) -> None:
            unlike_any_other = {"prompt": [number, *body["prompt"]]}  # type: ignore[misc] # a list of token ids
            async with client.post(f"{url}/v1/completions", json=body | unlike_any_other) as response:
                text = await response.text()
            if not text.endswith("data: [DONE]\n\n") or '"finish_reason": "length"' not in text:
                raise RuntimeError(f"an answer of {url} is incomplete")

        async def scrape(url: str) -> None:
            async with client.get(f"{url}/metrics") as response:
                await response.read()

        requests = int(SECONDS * REQUESTS_PER_S)
        rounds = int(SECONDS / SCRAPE_PERIOD_S)
        async with asyncio.TaskGroup() as tasks:
            loop = asyncio.get_running_loop()
            for number in range(requests):
                due_s = number / REQUESTS_PER_S
                loop.call_later(due_s, lambda n=number: tasks.create_task(ask(next(targets), n)))
            for number, url in itertools.product(range(rounds), urls):
                loop.call_later(number * SCRAPE_PERIOD_S, lambda u=url: tasks.create_task(scrape(u)))
            await asyncio.sleep(SECONDS)
    print(requests, rounds * len(urls))


if __name__ == "__main__":
    asyncio.run(send(sys.argv[1:]))
