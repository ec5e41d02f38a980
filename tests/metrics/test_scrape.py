"""The scraper against a real server on loopback: what it sends, what it takes, and every way to fail."""

import asyncio
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from metrics.clock import ManualClock, WallClock
from metrics.errors import ScrapeError, ScrapeFailure
from metrics.exposition import PAGE_BYTES_MAX
from metrics.pages import vllm_page
from metrics.scrape import CREDENTIALS_MAX_AGE_S, Scraper, ScrapeTarget

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]


def sends(raw: bytes) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(raw)
        await writer.drain()

    return behave


def answers(body: bytes, status: str = "200 OK", *headers: str) -> Behaviour:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return sends("\r\n".join(head).encode() + body)


async def hangs(_writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def hangs_within_the_body(writer: asyncio.StreamWriter) -> None:
    await sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nvllm:")(writer)
    await hangs(writer)


async def resets_within_the_body(writer: asyncio.StreamWriter) -> None:
    await sends(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nvllm:")(writer)
    writer.transport.abort()


async def closes_within_a_chunked_body(writer: asyncio.StreamWriter) -> None:
    await sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nvllm:\r\n")(writer)
    writer.close()


async def drips_without_end(writer: asyncio.StreamWriter) -> None:
    await sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")(writer)
    while True:
        await sends(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")(writer)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"


def gzip_bomb() -> bytes:
    """A few kilobytes that unpack to a hundred megabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b"\0" * 1_000_000) for _ in range(100)) + packer.flush()


@dataclass
class Pod:
    """A server on loopback that behaves as told, whatever the path."""

    behave: Behaviour = field(default=answers(b""))
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    scheme: str = "http"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await self.behave(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    def target(self, **fields: object) -> ScrapeTarget:
        return ScrapeTarget(key="ns/pod", url=f"{self.scheme}://localhost:{self.port}/metrics", **fields)  # type: ignore[arg-type]

    @property
    def headers(self) -> dict[str, str]:
        lines = self.requests[-1].decode().split("\r\n")[1:-2]
        return {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    async for one in serving(None):
        yield one


async def serving(context: ssl.SSLContext | None) -> AsyncIterator[Pod]:
    pod = Pod(scheme="https" if context else "http")
    tasks: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.ensure_future(pod.serve(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    pod.port = server.sockets[0].getsockname()[1]
    yield pod
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def scraper() -> AsyncIterator[Scraper]:
    async with Scraper(WallClock(), deadline_s=5.0) as scraper:
        yield scraper


# --- a good page -----------------------------------------------------------------------------------------------------


async def test_a_page_becomes_a_sample_stamped_with_the_clock(pod: Pod) -> None:
    pod.behave = answers(vllm_page())

    async with Scraper(ManualClock(1234.5)) as scraper:
        sample = await scraper.scrape(pod.target())

    assert (sample.observed_at_s, sample.running_requests) == (1234.5, 8.0)


async def test_it_asks_for_the_format_that_keeps_the_colon(pod: Pod, scraper: Scraper) -> None:
    pod.behave = answers(vllm_page())

    await scraper.scrape(pod.target())

    assert pod.requests[-1].startswith(b"GET /metrics HTTP/1.1\r\n")
    assert pod.headers["accept"] == "text/plain;version=0.0.4"
    assert "authorization" not in pod.headers


async def test_connections_are_reused(pod: Pod, scraper: Scraper) -> None:
    pod.behave = answers(vllm_page())

    for _ in range(5):
        await scraper.scrape(pod.target())

    assert (len(pod.requests), pod.connections) == (5, 1)


async def test_a_connection_that_the_server_closed_while_idle_is_no_failure(pod: Pod, scraper: Scraper) -> None:
    async def answer_once(writer: asyncio.StreamWriter) -> None:
        await answers(vllm_page())(writer)
        writer.close()

    pod.behave = answer_once

    samples = [await scraper.scrape(pod.target()) for _ in range(3)]

    assert [sample.running_requests for sample in samples] == [8.0] * 3


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(answers(gzip.compress(vllm_page()), "200 OK", "Content-Encoding: gzip"), id="gzip, unasked"),
        pytest.param(sends(CHUNKED % (len(vllm_page()), vllm_page())), id="chunked"),
    ],
)
async def test_packed_and_chunked_pages_are_read(pod: Pod, scraper: Scraper, behave: Behaviour) -> None:
    pod.behave = behave

    assert (await scraper.scrape(pod.target())).running_requests == 8.0


# --- every way to fail -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behave", "kind"),
    [
        pytest.param(hangs, ScrapeFailure.TIMEOUT, id="no answer"),
        pytest.param(hangs_within_the_body, ScrapeFailure.TIMEOUT, id="half an answer"),
        pytest.param(resets_within_the_body, ScrapeFailure.BROKEN, id="reset within the body"),
        pytest.param(closes_within_a_chunked_body, ScrapeFailure.BROKEN, id="closed within a chunked body"),
        pytest.param(sends(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), ScrapeFailure.BROKEN, id="no HTTP"),
        pytest.param(answers(b"oh", "500 Internal Server Error"), ScrapeFailure.STATUS, id="500"),
        pytest.param(answers(b"", "401 Unauthorized"), ScrapeFailure.STATUS, id="401"),
        pytest.param(answers(b"", "302 Found", "Location: /login"), ScrapeFailure.STATUS, id="redirect"),
        pytest.param(answers(b"", "204 No Content"), ScrapeFailure.STATUS, id="204"),
        pytest.param(answers(b"x" * (PAGE_BYTES_MAX + 1)), ScrapeFailure.TOO_LARGE, id="a huge body"),
        pytest.param(drips_without_end, ScrapeFailure.TOO_LARGE, id="a body without end"),
        pytest.param(
            answers(gzip_bomb(), "200 OK", "Content-Encoding: gzip"), ScrapeFailure.TOO_LARGE, id="a gzip bomb"
        ),
        pytest.param(answers(b"junk", "200 OK", "Content-Encoding: gzip"), ScrapeFailure.BROKEN, id="no gzip"),
        pytest.param(answers(b"<!doctype html><p>vLLM</p>"), ScrapeFailure.NOT_VLLM, id="HTML"),
        pytest.param(answers(b""), ScrapeFailure.NOT_VLLM, id="an empty 200"),
        pytest.param(answers(b"process_cpu_seconds_total 1\n"), ScrapeFailure.NOT_VLLM, id="another exporter"),
        pytest.param(answers(vllm_page()[:-20]), ScrapeFailure.UNPARSABLE, id="a cut page"),
        pytest.param(answers(b"vllm:num_requests_running four\n"), ScrapeFailure.UNPARSABLE, id="a broken line"),
    ],
)
async def test_a_failure_names_its_kind_and_the_address(pod: Pod, behave: Behaviour, kind: ScrapeFailure) -> None:
    pod.behave = behave
    deadline_s = 0.3 if kind is ScrapeFailure.TIMEOUT else 20.0

    async with Scraper(WallClock(), deadline_s=deadline_s) as scraper:
        with pytest.raises(ScrapeError) as caught:
            await scraper.scrape(pod.target())

    assert caught.value.kind is kind
    assert "ns/pod" in str(caught.value)
    assert f":{pod.port}/metrics" in str(caught.value)


async def test_a_redirect_is_not_followed(pod: Pod, scraper: Scraper) -> None:
    pod.behave = answers(b"", "307 Temporary Redirect", "Location: /elsewhere")

    with pytest.raises(ScrapeError, match="HTTP 307"):
        await scraper.scrape(pod.target())

    assert len(pod.requests) == 1


async def test_a_failed_scrape_does_not_spoil_the_next(pod: Pod, scraper: Scraper) -> None:
    pod.behave = resets_within_the_body
    with pytest.raises(ScrapeError):
        await scraper.scrape(pod.target())

    pod.behave = answers(vllm_page())

    assert (await scraper.scrape(pod.target())).running_requests == 8.0


@pytest.mark.parametrize(("extra", "is_taken"), [(-1, True), (0, True), (1, False)], ids=["under", "at", "over"])
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
async def test_the_body_is_bounded_as_unpacked(pod: Pod, *, extra: int, is_taken: bool, packed: bool) -> None:
    page = vllm_page()
    pod.behave = answers(gzip.compress(page), "200 OK", "Content-Encoding: gzip") if packed else answers(page)

    async with Scraper(WallClock(), body_bytes_max=len(page) - extra) as scraper:
        if is_taken:
            assert (await scraper.scrape(pod.target())).running_requests == 8.0
        else:
            with pytest.raises(ScrapeError) as caught:
                await scraper.scrape(pod.target())
            assert caught.value.kind is ScrapeFailure.TOO_LARGE


async def test_nobody_listening_is_refused(scraper: Scraper) -> None:
    with socket.socket() as taken:  # bound but not listening
        taken.bind(("127.0.0.1", 0))
        target = ScrapeTarget(key="ns/pod", url=f"http://127.0.0.1:{taken.getsockname()[1]}/metrics")

        with pytest.raises(ScrapeError) as caught:
            await scraper.scrape(target)

    assert caught.value.kind is ScrapeFailure.REFUSED


async def test_open_scrapes_are_bounded(pod: Pod) -> None:
    gate, full, waiting, most = asyncio.Event(), asyncio.Event(), 0, 0

    async def wait_at_the_gate(writer: asyncio.StreamWriter) -> None:
        nonlocal waiting, most
        waiting += 1
        most = max(most, waiting)
        if waiting == 3:
            full.set()
        await gate.wait()
        waiting -= 1
        await answers(vllm_page())(writer)

    pod.behave = wait_at_the_gate
    async with Scraper(WallClock(), concurrency_max=3, deadline_s=20.0) as scraper, asyncio.TaskGroup() as group:
        for _ in range(9):
            group.create_task(scraper.scrape(pod.target()))
        await asyncio.wait_for(full.wait(), timeout=10)
        gate.set()

    assert (most, len(pod.requests)) == (3, 9)


async def test_a_scraper_that_was_not_entered_is_a_bug(pod: Pod) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Scraper(WallClock()).scrape(pod.target())


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("", id="nothing"),
        pytest.param("10.0.0.1:8000/metrics", id="no scheme"),
        pytest.param("ftp://x/metrics", id="another scheme"),
        pytest.param("http:///metrics", id="no host"),
        pytest.param("http://x:99999/metrics", id="port out of range"),
        pytest.param("http://x:0/metrics", id="port 0"),
        pytest.param("http://x:http/metrics", id="port by name"),
        pytest.param("http://[::1/metrics", id="open bracket"),
        pytest.param("http://a..b/metrics", id="empty label"),
        pytest.param(f"http://{'a' * 64}/metrics", id="label too long"),
        pytest.param("http://x/metr ics", id="blank"),
        pytest.param("http://x/metrics\nHost: y", id="line feed"),
    ],
)
def test_a_target_without_a_usable_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="ns/pod"):
        ScrapeTarget(key="ns/pod", url=url)


# --- tokens and TLS --------------------------------------------------------------------------------------------------


async def test_the_bearer_token_is_read_again_when_it_may_have_rotated(pod: Pod, tmp_path: Path) -> None:
    pod.behave = answers(vllm_page())
    file, clock = tmp_path / "token", ManualClock()
    target = pod.target(bearer_token_file=file)
    seen = []
    async with Scraper(clock) as scraper:
        for token, pause_s in (("one\n", 0.0), ("two\n", CREDENTIALS_MAX_AGE_S - 1), ("three\n", 1.0)):
            file.write_text(token)
            clock.advance(pause_s)
            await scraper.scrape(target)
            seen.append(pod.headers["authorization"])

    assert seen == ["Bearer one", "Bearer one", "Bearer three"]


async def test_a_token_file_that_is_not_there_is_a_failure_that_names_it(pod: Pod, scraper: Scraper) -> None:
    with pytest.raises(ScrapeError, match="/no/such/token") as caught:
        await scraper.scrape(pod.target(bearer_token_file=Path("/no/such/token")))

    assert (caught.value.kind, pod.requests) == (ScrapeFailure.CREDENTIALS, [])


@pytest.fixture
async def tls_pod(authority: Path) -> AsyncIterator[Pod]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(authority / "pod.pem", authority / "pod.key")
    async for one in serving(context):
        one.behave = answers(vllm_page())
        yield one


async def test_an_own_authority_is_trusted_where_named(tls_pod: Pod, scraper: Scraper, authority: Path) -> None:
    sample = await scraper.scrape(tls_pod.target(ca_file=authority / "ca.pem"))

    assert sample.running_requests == 8.0


async def test_any_certificate_is_taken_where_asked_for(tls_pod: Pod, scraper: Scraper) -> None:
    assert (await scraper.scrape(tls_pod.target(insecure=True))).running_requests == 8.0


async def test_an_unknown_authority_is_a_tls_failure(tls_pod: Pod, scraper: Scraper) -> None:
    with pytest.raises(ScrapeError) as caught:
        await scraper.scrape(tls_pod.target())

    assert (caught.value.kind, tls_pod.requests) == (ScrapeFailure.TLS, [])


async def test_a_ca_file_that_is_none_is_a_tls_failure_that_names_it(
    tls_pod: Pod, scraper: Scraper, tmp_path: Path
) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")

    for file in (tmp_path / "ca.pem", tmp_path / "absent.pem"):
        with pytest.raises(ScrapeError, match=str(file)) as caught:
            await scraper.scrape(tls_pod.target(ca_file=file))
        assert caught.value.kind is ScrapeFailure.TLS


async def test_plain_http_where_tls_is_expected_is_a_tls_failure(scraper: Scraper) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        await answers(b"", "400 Bad Request")(writer)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ScrapeError) as caught:
            await scraper.scrape(ScrapeTarget(key="ns/pod", url=f"https://127.0.0.1:{port}/metrics"))

    assert caught.value.kind is ScrapeFailure.TLS
