"""The agent's own HTTP endpoints: /healthz, /progress for people and tools, /metrics for Prometheus."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nodeagent.report import NodeFacts, Phase, node_status

BODY_BYTES_MAX = 1024  # probes and a Prometheus: nobody sends us a body
_TEXT = "text/plain; version=0.0.4; charset=utf-8"

Facts = Callable[[], NodeFacts | None]


class Gauges(Collector):
    """What the last pass found. No model's name: a label per model and node would be a series for each pair."""

    def __init__(self, facts: Facts, sent_bytes: Callable[[], int]) -> None:
        self._facts = facts
        self._sent_bytes = sent_bytes

    def collect(self) -> Iterator[Metric]:
        """Nothing before the first pass: missing is not zero."""
        found = self._facts()
        if found is None:
            return
        models = GaugeMetricFamily("warmtide_cache_models", "Models of this node by phase.", labels=["phase"])
        for phase in Phase:
            models.add_metric([phase.value], sum(fact.phase is phase for fact in found.models))
        yield models
        speed = sum(fact.bytes_per_s for fact in found.models)
        missing = sum(fact.size_bytes - fact.fetched_bytes for fact in found.models if fact.phase is Phase.FETCHING)
        for name, text, value in (
            ("warmtide_cache_held_bytes", "Bytes the cache holds, staging included.", found.room.held_bytes),
            ("warmtide_cache_limit_bytes", "Bytes the cache may hold now.", found.room.high_bytes),
            ("warmtide_cache_disk_free_bytes", "Bytes free on the file system.", found.free_bytes),
            ("warmtide_cache_fetch_bytes_per_second", "Speed of all fetches.", speed),
            ("warmtide_cache_fetch_remaining_bytes", "Bytes that running fetches still need.", missing),
        ):
            yield GaugeMetricFamily(name, text, value=value)
        words = "Bytes of models given to other nodes."
        yield CounterMetricFamily("warmtide_cache_peer_sent_bytes", words, value=self._sent_bytes())


@asynccontextmanager
async def serving(
    host: str, port: int, *, facts: Facts, sent_bytes: Callable[[], int], now_s: Callable[[], float]
) -> AsyncIterator[int]:
    """Serve within the block; gives the port."""
    registry = CollectorRegistry()
    registry.register(Gauges(facts, sent_bytes))

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")  # that the loop answers is the news

    async def metrics(_request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": _TEXT})

    async def progress(_request: web.Request) -> web.Response:
        found = facts()
        if found is None:
            return web.json_response({"error": "the first pass has not ended"}, status=503)
        return web.json_response(node_status(found, now_s()))

    app = web.Application(client_max_size=BODY_BYTES_MAX)
    app.add_routes([web.get("/healthz", healthz), web.get("/metrics", metrics), web.get("/progress", progress)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()
