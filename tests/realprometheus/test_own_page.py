"""What the controller says of itself passes Prometheus' own linter, and a real Prometheus stores it under its names."""

import asyncio
from pathlib import Path

from aiohttp import web

from metrics.clock import WallClock
from metrics.examples import busy_telemetry
from metrics.prometheus import History, HistoryConfig
from simulations.cluster.real_prometheus import prometheus, promtool, scraping


async def test_the_page_passes_promtool() -> None:
    telemetry = busy_telemetry()

    said = await promtool("check", "metrics", given=telemetry.exposition())
    telemetry.shutdown()

    assert said.strip() == ""


async def test_a_real_prometheus_reads_it(tmp_path: Path) -> None:
    telemetry, clock = busy_telemetry(), WallClock()

    async def page(_: web.Request) -> web.Response:
        return web.Response(body=telemetry.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    config = scraping({"controller": f"127.0.0.1:{runner.addresses[0][1]}/metrics"})
    async with prometheus(tmp_path, clock, config=config) as url, asyncio.timeout(30):
        history, wanted = History(HistoryConfig(url=url)), 'warmtide_desired_replicas{service="ns/a"}'
        while True:
            now_s = clock.now_s()
            found = await history.query_range(wanted, start_s=now_s - 5, end_s=now_s, step_s=1)
            if not found.is_empty:
                break
            await asyncio.sleep(0.2)
    await runner.cleanup()
    telemetry.shutdown()

    assert found.series[0].points[-1][1] == 3.0
