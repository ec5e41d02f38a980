"""The controller's own HTTP endpoints: /metrics, /healthz, /readyz."""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from aiohttp import web

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
# Probes and a Prometheus: nobody sends us a body.
_BODY_BYTES_MAX = 1024

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(
    host: str, port: int, *, metrics: Callable[[], bytes], unready: Callable[[], str]
) -> AsyncIterator[int]:
    """Serve within the block; gives the port. `unready` says what is still missing, or nothing."""

    async def show_metrics(_request: web.Request) -> web.Response:
        return web.Response(body=metrics(), headers={"Content-Type": _TEXT})

    async def healthz(_request: web.Request) -> web.Response:
        return web.Response(text="ok\n")  # that the loop answers is the news

    async def readyz(_request: web.Request) -> web.Response:
        missing = unready()
        return web.Response(text=f"{missing or 'ok'}\n", status=503 if missing else 200)

    app = web.Application(client_max_size=_BODY_BYTES_MAX)
    app.add_routes([web.get("/metrics", show_metrics), web.get("/healthz", healthz), web.get("/readyz", readyz)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound = int(runner.addresses[0][1])
        log.info("listening on %s:%d", host, bound)
        yield bound
    finally:
        await runner.cleanup()
