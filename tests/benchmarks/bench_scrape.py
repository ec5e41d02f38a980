"""Pods scraped and parsed per second on one core: the whole loop, from schedule to sample, over loopback HTTP.

A process of its own serves 50 kB pages, on the other core; ours is pinned to one and never idle.
Counted per second of our own CPU time, user and system: on an undisturbed core that is wall time, and
elsewhere it does not measure who else runs. Wall time and the share of the core we got are told too.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from figures import Figure

from metrics.clock import WallClock
from metrics.pages import vllm_page
from metrics.sample import EngineSample
from metrics.scrape import ScrapeLoop, Scraper, ScrapeTarget, TimedTarget

BAR = 600.0
ROOT = Path(__file__).parents[2]
TARGETS = 400
SERVICES = 200  # of different model names: what is remembered of one page helps two pods only
PERIOD_S = 0.1  # far more than one core can do: the loop is always behind
WARM_UP_S = 1.0
MEASURED_S = 4.0


def run() -> list[Figure]:
    return asyncio.run(measure())


async def measure() -> list[Figure]:
    """Start the server, scrape it flat out, stop it."""
    cores = sorted(os.sched_getaffinity(0))
    server = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        str(cores[-1]),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    os.sched_setaffinity(0, cores[:1])
    try:
        assert server.stdout is not None
        port = int(await server.stdout.readline())
        return await scrape_flat_out(port)
    finally:
        os.sched_setaffinity(0, cores)
        server.terminate()
        await server.wait()


async def scrape_flat_out(port: int) -> list[Figure]:
    """Count samples over a few seconds, of wall and of CPU."""
    counts = {"samples": 0, "failures": 0}

    def count(_key: str, result: object) -> None:
        counts["samples" if isinstance(result, EngineSample) else "failures"] += 1

    targets = {
        f"pod-{i}": TimedTarget(
            target=ScrapeTarget(key=f"pod-{i}", url=f"http://127.0.0.1:{port}/metrics/{i % SERVICES}"),
            period_s=PERIOD_S,
        )
        for i in range(TARGETS)
    }
    clock = WallClock()
    async with Scraper(clock) as scraper:
        loop = ScrapeLoop(scraper, clock, count)
        loop.set_targets(targets)
        running = asyncio.ensure_future(loop.run())
        await asyncio.sleep(WARM_UP_S)
        before, wall_s, cpu_s = counts["samples"], time.monotonic(), time.process_time()
        await asyncio.sleep(MEASURED_S)
        samples = counts["samples"] - before
        wall_s, cpu_s = time.monotonic() - wall_s, time.process_time() - cpu_s
        running.cancel()
        await asyncio.wait([running])
    if counts["failures"]:
        raise RuntimeError(f"{counts['failures']} scrapes of the benchmark's own server failed")
    return [
        Figure(name="scraped_pods_per_s", value=samples / cpu_s, unit="1/s", bar=BAR),
        Figure(name="scraped_pods_per_wall_s", value=samples / wall_s, unit="1/s"),
        Figure(name="scrape_core_share", value=cpu_s / wall_s, unit="ratio"),
    ]


class PageServer(asyncio.Protocol):
    """The least HTTP/1.1 server there is, so that the client is what is measured."""

    answers: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:
            request, _, self.received = self.received.partition(b"\r\n\r\n")
            self.transport.write(self.answers[int(request.split(b" ", 2)[1].rsplit(b"/", 1)[1])])


async def serve(core: int) -> None:
    """Serve one page per service until terminated."""
    os.sched_setaffinity(0, [core])
    head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\r\n"
    pages = [vllm_page(steps=1000 * i, model_name=f"org/model-{i}-instruct") for i in range(SERVICES)]
    PageServer.answers = [head.format(len(page)).encode() + page for page in pages]
    server = await asyncio.get_running_loop().create_server(PageServer, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
