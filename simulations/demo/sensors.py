"""Queue and KV cache of the fleet, read from the replicas' own metrics pages for the view."""

import asyncio
from dataclasses import dataclass

from metrics.clock import Clock
from metrics.errors import ScrapeError
from metrics.sample import EngineSample
from metrics.scrape import Scraper
from metrics.target import ScrapeTarget
from simulations.cluster.proxy import Backend, Backends

PERIOD_S = 1.0


@dataclass(slots=True)
class Gauges:
    """The newest readings; zero where no replica could be read: it is for looking at, not for deciding."""

    waiting_requests: float = 0.0
    kv_cache_usage_ratio: float = 0.0


async def follow_gauges(backends: Backends, gauges: Gauges, clock: Clock) -> None:
    """Read every ready replica once a period, for ever."""
    async with Scraper(clock, deadline_s=PERIOD_S) as scraper:
        while True:
            async with asyncio.TaskGroup() as group:
                reads = [group.create_task(_read(scraper, backend)) for backend in backends]
            samples = [sample for read in reads if (sample := read.result()) is not None]
            usage = [sample.kv_cache_usage_ratio or 0.0 for sample in samples]
            gauges.waiting_requests = sum(sample.waiting_requests or 0.0 for sample in samples)
            gauges.kv_cache_usage_ratio = sum(usage) / len(usage) if usage else 0.0
            await clock.sleep(PERIOD_S)


async def _read(scraper: Scraper, backend: Backend) -> EngineSample | None:
    url = f"http://{backend.host}:{backend.port}/metrics"
    try:
        return await scraper.scrape(ScrapeTarget(key=backend.name, url=url))
    except ScrapeError:
        return None
