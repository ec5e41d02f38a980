"""Pages, certificates, and an HTTP server that speaks Prometheus' API."""

import asyncio
import contextlib
import json
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from metrics.prometheus import History, HistoryConfig, HistoryResult, InstantResult

SHARED = Path(__file__).parents[2] / ".." / "shared"


@pytest.fixture(params=["idle", "load"])
def real_page(request: pytest.FixtureRequest) -> bytes:
    """A page recorded from a vLLM 0.32 server."""
    path = SHARED / "vllm" / f"metrics-0.32-{request.param}.txt"
    if not path.exists():
        pytest.skip(f"no recorded vLLM page at {path.name}: ../shared is absent")
    return path.read_bytes()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, and a server certificate for localhost and 127.0.0.1 that it signed."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make certificates with")
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=30)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Test CA", "-days", "2")
    openssl("req", *key, "-keyout", "pod.key", "-out", "pod.csr", "-subj", "/CN=localhost")
    (folder / "san").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "san")
    openssl("x509", "-req", "-in", "pod.csr", "-out", "pod.pem", *signing)
    return folder


@dataclass
class Server:
    """Answers queries as told, and keeps what it was asked."""

    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    url: str = ""
    pause: asyncio.Event | None = None
    drips: bool = False

    def says(self, *series: dict[str, Any], **more: object) -> None:
        self.says_now("matrix", list(series), **more)

    def says_now(self, kind: str, result: object, **more: object) -> None:
        self.body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}, **more})

    async def drip(self, request: web.Request) -> web.StreamResponse:
        """Pieces that each come well within a read timeout, for ever."""
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b" " * 65_536)
                await asyncio.sleep(0.02)
        return response

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        self.authorizations.append(request.headers.get("Authorization"))
        if self.pause is not None:
            await self.pause.wait()
        if self.drips:
            return await self.drip(request)
        return web.Response(status=self.status, text=self.body, headers=self.headers, content_type="application/json")

    async def ask(self, **config: Any) -> HistoryResult:
        history = History(HistoryConfig(url=self.url, **config))
        return await history.query_range("up", start_s=1_000.0, end_s=1_120.0, step_s=60.0)

    async def ask_now(self, query: str = "up", **config: Any) -> InstantResult:
        return await History(HistoryConfig(url=self.url, **config)).query(query)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async for one in serving(None):
        yield one


@pytest.fixture
async def tls_server(authority: Path) -> AsyncIterator[Server]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "pod.pem", authority / "pod.key")
    async for one in serving(context):
        one.says()
        yield one


async def serving(context: ssl.SSLContext | None) -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/api/v1/query_range", server.answer)
    app.router.add_get("/api/v1/query", server.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    yield server
    await runner.cleanup()
