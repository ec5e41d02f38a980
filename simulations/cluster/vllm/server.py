"""One emulated vLLM server: from a refused connection over ready to gone, as a real one goes.

SIGTERM, as a 0.32 server treats it: without `--shutdown-timeout` the socket closes at once and what is
unfinished ends with HTTP 200 and the finish reason `abort`; with it, whatever was admitted completes while
/health and /metrics stay 200 and new requests get 500.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from metrics.clock import Clock, WallClock

from .http_metrics import HttpMetrics
from .live_engine import LiveEngine
from .options import Listen, ServerOptions
from .page import Page, PageFaults, go_time
from .routes import Routes

# How long aborted answers have to reach their clients: a real server is gone 1.2 s after SIGTERM.
FLUSH_S = 1.0
BACKLOG = 2048  # uvicorn's


class VLLMEmulator:
    """An HTTP server with vLLM's interface, metrics and timing. Its tasks live in the group it is given."""

    def __init__(self, options: ServerOptions, tasks: asyncio.TaskGroup, clock: Clock | None = None) -> None:
        self.options = options
        self.exited = asyncio.Event()
        self._tasks = tasks
        self._clock = clock or WallClock()
        self._engine = LiveEngine(options, self._clock)
        started_at_s = self._clock.now_s()
        self._page = Page(options, self._engine.stats, created_at_s=started_at_s)
        http_metrics = HttpMetrics(go_time(started_at_s))
        self._routes = Routes(options, self._engine, self._page, http_metrics, self._clock)
        self._opening = asyncio.Lock()  # a stop waits for a half-open socket, and what is stopped never opens
        self._driver: asyncio.Task[None] | None = None
        self._runner: web.AppRunner | None = None
        self._site: web.TCPSite | None = None

    @property
    def address(self) -> Listen:
        """Where it listens; with port 0 asked for, the port it got."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the emulator does not listen")
        host, port = self._runner.addresses[0][:2]
        return Listen(host, port)

    @property
    def url(self) -> str:
        """Base URL of a server on an IPv4 address."""
        address = self.address
        return f"http://{address.host}:{address.port}"

    @property
    def faults(self) -> PageFaults:
        """What is wrong with /metrics now."""
        return self._routes.faults

    @faults.setter
    def faults(self, faults: PageFaults) -> None:
        self._routes.faults = faults
        self._page.set_faults(faults)

    async def start(self, host: str, port: int) -> None:
        """Wait out the start-up, then listen; connections are refused until then."""
        await self._clock.sleep(self.options.real_startup_s)
        async with self._opening:
            if not self.exited.is_set():
                await self._open(host, port)

    async def terminate(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after `grace_s`; returns when the server is gone."""
        self._routes.is_draining = True
        timeout_s = self.options.shutdown_timeout_s
        if timeout_s > 0 and not await self._drain(min(timeout_s, grace_s)) and grace_s < timeout_s:
            await self.kill()
            return
        site, self._site = self._site, None  # taken first: a second stop finds none
        if site is not None:
            await site.stop()
        self._engine.abort_all()
        await self._close()

    async def kill(self) -> None:
        """SIGKILL: every connection is reset."""
        if self._runner is not None and self._runner.server is not None:
            for connection in self._runner.server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
        await self._close()

    async def _open(self, host: str, port: int) -> None:
        self._runner = web.AppRunner(
            self._routes.app(), access_log=None, handler_cancellation=True, shutdown_timeout=FLUSH_S
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, backlog=BACKLOG)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._site = site
        self._driver = self._tasks.create_task(self._engine.run(), name=f"engine of {self.options.model_name}")

    async def _drain(self, timeout_s: float) -> bool:
        """Complete what was admitted; False when time ran out."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._routes.wait_all_answered()
        except TimeoutError:
            return False
        return True

    async def _close(self) -> None:
        async with self._opening:
            if self._driver is not None:
                self._driver.cancel()
            if self._runner is not None:
                await self._runner.cleanup()
            self.exited.set()


@asynccontextmanager
async def serving(options: ServerOptions, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[VLLMEmulator]:
    """A server for the length of a block, at a free port unless one is given; killed at its end."""
    async with asyncio.TaskGroup() as tasks:
        emulator = VLLMEmulator(options, tasks)
        await emulator.start(host, port)
        try:
            yield emulator
        finally:
            await emulator.kill()
