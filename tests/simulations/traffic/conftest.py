"""Small scripted HTTP servers on loopback, to stand behind the proxy and the load generator."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Serve = Callable[[Handler], Awaitable[tuple[str, int]]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start servers that answer every path with one handler; all stop with the test."""
    runners: list[web.AppRunner] = []

    async def start(handler: Handler) -> tuple[str, int]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        return str(host), int(port)

    yield start
    for runner in runners:
        await runner.cleanup()
