"""Reads one pod's /metrics: bounded in time, size and number, over reused connections.

`scrape` gives an `EngineSample` or raises `ScrapeError`, nothing else. A sample is stamped with the
time the scrape began, as Prometheus does: what it says is at least that fresh.
`ScrapeLoop` (`metrics.scrape_loop`) does it over and over for many.
"""

import asyncio
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Generic, Self, TypeVar

import aiohttp

from metrics.catalog import read_sample
from metrics.clock import Clock
from metrics.errors import ExpositionError, NotAnEngineError, ScrapeError, ScrapeFailure
from metrics.exposition import PAGE_BYTES_MAX
from metrics.sample import EngineSample
from metrics.scrape_loop import ScrapeLoop
from metrics.target import ScrapeTarget, TimedTarget

__all__ = ["ScrapeLoop", "ScrapeTarget", "Scraper", "TimedTarget"]

DEADLINE_S = 2.0  # one period under load; vLLM answers in 20 ms
CONCURRENCY_MAX = 256  # open scrapes at once; sockets and memory stay small
KEEPALIVE_S = 4.5  # uvicorn, and so vLLM, closes idle connections after 5 s: let go first, not just after
CREDENTIALS_MAX_AGE_S = 30.0  # projected tokens and CA bundles rotate in place; kubelet swaps them well before expiry

_HEADERS = {
    # anything newer lets prometheus_client rename vllm:x to vllm_x
    "Accept": "text/plain;version=0.0.4",
    # packing 50 kB costs the engine's API process more than the network saves
    "Accept-Encoding": "identity",
    "User-Agent": "warmtide",
}

_T = TypeVar("_T")


class Scraper:
    """Scrapes targets; use as an async context manager, which owns the connections."""

    def __init__(
        self,
        clock: Clock,
        *,
        deadline_s: float = DEADLINE_S,
        body_bytes_max: int = PAGE_BYTES_MAX,
        concurrency_max: int = CONCURRENCY_MAX,
    ) -> None:
        self._clock = clock
        self._deadline_s = deadline_s
        self._body_bytes_max = body_bytes_max
        self._free = asyncio.Semaphore(concurrency_max)
        self._tokens: _Fresh[str] = _Fresh(clock)
        self._contexts: _Fresh[ssl.SSLContext] = _Fresh(clock)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # our own semaphore bounds connections: waiting in aiohttp's pool would eat the deadline
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # asyncio.timeout below is the one deadline
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def scrape(self, target: ScrapeTarget) -> EngineSample:
        """One sample of one target."""
        async with self._free:
            began_at_s = self._clock.now_s()
            page = await self._fetch(target)
        try:
            return read_sample(page, observed_at_s=began_at_s)
        except ExpositionError as exc:
            raise ScrapeError(target.key, ScrapeFailure.UNPARSABLE, f"{target.url}: {exc}") from exc
        except NotAnEngineError as exc:
            raise ScrapeError(target.key, ScrapeFailure.NOT_VLLM, f"{target.url}: {exc}") from exc

    async def _fetch(self, target: ScrapeTarget) -> bytes:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await self._get(target)
        except TimeoutError as exc:
            what = f"{target.url}: no whole answer within {self._deadline_s:g} s"
            raise ScrapeError(target.key, ScrapeFailure.TIMEOUT, what) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise ScrapeError(target.key, _kind_of(exc), f"{target.url}: {exc or type(exc).__name__}") from exc

    async def _get(self, target: ScrapeTarget) -> bytes:
        if self._session is None:
            raise RuntimeError("a Scraper must be entered with `async with` before it scrapes")
        headers = await self._authorization(target)
        context = await self._context(target)
        # a redirect could carry the token elsewhere: it is a Status failure
        async with self._session.get(target.url, headers=headers, ssl=context, allow_redirects=False) as response:
            if response.status != 200:
                what = f"{target.url}: HTTP {response.status} {response.reason or ''}".rstrip()
                raise ScrapeError(target.key, ScrapeFailure.STATUS, what)
            return await self._body(target, response)

    async def _body(self, target: ScrapeTarget, response: aiohttp.ClientResponse) -> bytes:
        told = response.content_length
        if told is not None and told > self._body_bytes_max:
            raise self._too_large(target)
        if told is not None and "Content-Encoding" not in response.headers:
            return await response.read()
        chunks: list[bytes] = []
        size = 0
        # chunk by chunk, as unpacked: a small packed body may be a very large page
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > self._body_bytes_max:
                raise self._too_large(target)
            chunks.append(chunk)
        return b"".join(chunks)

    def _too_large(self, target: ScrapeTarget) -> ScrapeError:
        what = f"{target.url}: the body exceeds {self._body_bytes_max} bytes"
        return ScrapeError(target.key, ScrapeFailure.TOO_LARGE, what)

    async def _authorization(self, target: ScrapeTarget) -> dict[str, str] | None:
        path = target.bearer_token_file
        if path is None:
            return None

        def read() -> str:
            return path.read_text(encoding="ascii").strip()

        try:
            token = await self._tokens.get(str(path), read)
        except (OSError, ValueError) as exc:
            what = f"bearer token file {path} cannot be read: {exc}"
            raise ScrapeError(target.key, ScrapeFailure.CREDENTIALS, what) from exc
        return {"Authorization": f"Bearer {token}"}

    async def _context(self, target: ScrapeTarget) -> ssl.SSLContext | bool:
        path = target.ca_file
        if target.insecure:
            return False
        if path is None:
            return True

        def read() -> ssl.SSLContext:
            return ssl.create_default_context(cafile=path)

        try:
            return await self._contexts.get(str(path), read)
        except OSError as exc:  # ssl.SSLError is one
            what = f"CA file {path} cannot be used: {exc}"
            raise ScrapeError(target.key, ScrapeFailure.TLS, what) from exc


class _Fresh(Generic[_T]):
    """Files read in a thread, and again once they are older than `CREDENTIALS_MAX_AGE_S`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, tuple[float, _T]] = {}  # bounded by the credentials that targets name

    async def get(self, path: str, read: Callable[[], _T]) -> _T:
        now_s = self._clock.now_s()
        kept = self._kept.get(path)
        if kept is not None and now_s - kept[0] < CREDENTIALS_MAX_AGE_S:
            return kept[1]
        value = await asyncio.to_thread(read)
        self._kept[path] = (now_s, value)
        return value


def _kind_of(error: aiohttp.ClientError | OSError) -> ScrapeFailure:
    match error:
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return ScrapeFailure.TLS
        case aiohttp.ClientConnectorError():
            return ScrapeFailure.REFUSED
        case _:
            return ScrapeFailure.BROKEN
