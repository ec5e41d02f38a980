"""Byte ranges over HTTP: guarded addresses, redirects without leaking credentials, answers that are what was asked.

Blocking sockets in threads, because that is the shortest way from the network card to a reused buffer: one
`recv_into`, no copy by Python. Every worker thread keeps its own connections alive.
"""

import http.client
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Protocol
from urllib.parse import urljoin, urlsplit

from cacheops.addresses import DEFAULT_PORTS, AddressRules, Origin, connect, origin_of, redacted
from cacheops.errors import (
    AccessDeniedError,
    CacheError,
    IntegrityMismatchError,
    InvalidRequestError,
    SourceSilentError,
    SourceUnavailableError,
)
from cacheops.guard import text_of
from metrics.clock import Clock

REDIRECTS_MAX = 5  # hub → CDN is one; a chain of five is a loop
STALL_S = 30.0  # no byte for so long: the range is asked again from its last byte
BYTES_PER_S_MIN = 1024  # a slower origin would take a month for 1 GiB: it is stalled, politely
RETRY_AFTER_MAX_S = 3600.0
_AGENT = "warmtide-cache"
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+)$")
_SECONDS = re.compile(r"^[0-9]{1,9}$")
# Of draft-ietf-httpapi-ratelimit-headers, as the hub sends it: nothing remains (r) for so many seconds (t).
_QUOTA_RESET = re.compile(r";\s*r=0;\s*t=([0-9]{1,9})\b")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class RangeStream(Protocol):
    """Bytes of one file from `start` on. A `start` other than asked means: the source cannot do ranges."""

    start: int

    def readinto(self, buffer: memoryview) -> int:
        """Some bytes, 0 at the end; at most one wait for the network."""
        ...

    def close(self) -> None:
        """Give the connection back, or close it when bytes are left."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to fetch and what only its own origin may see."""

    url: str
    secret_headers: Mapping[str, str] = field(default_factory=dict)
    start: int = 0
    stop: int | None = None
    size_bytes: int | None = None  # of the whole file; an answer that says otherwise is refused
    etag: str | None = None


class _Pace:
    """Ends an answer that only drips: waiting for the network is counted, our own caps are not."""

    def __init__(self, clock: Clock, stall_s: float) -> None:
        self._clock = clock
        self._stall_s = stall_s
        self._waited_s = 0.0
        self._got_bytes = 0

    def now_s(self) -> float:
        return self._clock.now_s()

    def waited(self, since_s: float, got_bytes: int) -> bool:
        """Whether the last wait leaves the answer fast enough."""
        self._waited_s += self._clock.now_s() - since_s
        self._got_bytes += got_bytes
        if self._waited_s < self._stall_s:
            return True
        fast = self._got_bytes >= BYTES_PER_S_MIN * self._waited_s
        self._waited_s, self._got_bytes = 0.0, 0
        return fast


class HttpStream:
    """The body of one answer."""

    def __init__(self, answer: http.client.HTTPResponse, line: "_Line", start: int, pace: _Pace) -> None:
        self.start = start
        self._answer = answer
        self._line = line
        self._pace = pace
        self._left = answer.length  # None: chunked, or until the connection closes

    def readinto(self, buffer: memoryview) -> int:
        if self._left == 0 or not buffer:
            return 0
        since_s = self._pace.now_s()
        try:
            count = self._receive(buffer)
        except TimeoutError as exc:
            raise SourceSilentError(f"{self._line.origin}: the answer stalls") from exc
        except (OSError, http.client.HTTPException) as exc:
            raise SourceUnavailableError(f"{self._line.origin}: the answer broke off: {exc!r}") from exc
        if not self._pace.waited(since_s, count):
            raise SourceUnavailableError(f"{self._line.origin}: slower than {BYTES_PER_S_MIN} bytes per second")
        return count

    def _receive(self, buffer: memoryview) -> int:
        """One wait at most: the answer's own readinto would wait until the buffer is full, however slow."""
        if self._left is None:
            data = self._answer.read1(len(buffer))
            buffer[: len(data)] = data
            return len(data)
        count = int(self._answer.fp.readinto1(buffer[: self._left]))
        self._left -= count
        return count

    def read_text(self, limit_bytes: int) -> str:
        """A whole small body."""
        body = bytearray()
        block = memoryview(bytearray(65536))
        while count := self.readinto(block):
            body += block[:count]
            if len(body) > limit_bytes:
                break
        return text_of(str(self._line.origin), body, limit_bytes)

    def close(self) -> None:
        self._line.release(self._answer, reusable=self._left == 0)


class _Pool:
    """Idle connections by origin, shared by all threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._idle: dict[Origin, list[http.client.HTTPConnection]] = {}

    def take(self, origin: Origin) -> http.client.HTTPConnection | None:
        with self._lock:
            idle = self._idle.get(origin)
            return idle.pop() if idle else None

    def give(self, origin: Origin, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            self._idle.setdefault(origin, []).append(connection)

    def close(self) -> None:
        with self._lock:
            for connections in self._idle.values():
                for connection in connections:
                    connection.close()
            self._idle.clear()


@dataclass(frozen=True, slots=True)
class _Line:
    """The connection that an answer came on."""

    pool: _Pool
    origin: Origin
    connection: http.client.HTTPConnection

    def release(self, answer: http.client.HTTPResponse, *, reusable: bool) -> None:
        """Keep the connection for the next request, or end it when bytes of this answer are still to come."""
        answer.close()
        if reusable and self.connection.sock is not None:
            self.pool.give(self.origin, self.connection)
        else:
            self.connection.close()


class HttpRanges:
    """Asks origins for ranges, for as many threads as like."""

    def __init__(
        self, rules: AddressRules, clock: Clock, *, tls: ssl.SSLContext | None = None, stall_s: float = STALL_S
    ) -> None:
        self._rules = rules
        self._clock = clock
        self._tls = tls
        self._tls_lock = threading.Lock()
        self._stall_s = stall_s
        self._pool = _Pool()

    def get(self, request: Request) -> HttpStream:
        """The answer's body, redirects followed, status and headers judged."""
        headers = {"Range": f"bytes={request.start}-{'' if request.stop is None else request.stop - 1}"}
        if request.etag and not request.etag.startswith("W/"):
            headers["If-Range"] = request.etag if request.etag.startswith('"') else f'"{request.etag}"'
        answer, line = self._follow("GET", request, headers if request.size_bytes else {})
        try:
            start = _judged(answer, request)
        except CacheError:
            line.release(answer, reusable=False)
            raise
        return HttpStream(answer, line, start, _Pace(self._clock, self._stall_s))

    def head(self, url: str, secret_headers: Mapping[str, str]) -> http.client.HTTPMessage:
        """The headers of a file after redirects."""
        answer, line = self._follow("HEAD", Request(url=url, secret_headers=secret_headers), {})
        line.release(answer, reusable=True)
        return answer.headers

    def close(self) -> None:
        """Close idle connections; those in use close with their streams."""
        self._pool.close()

    def _follow(
        self, method: str, request: Request, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, _Line]:
        url, home = request.url, origin_of(request.url)
        for _ in range(REDIRECTS_MAX + 1):
            origin = origin_of(url)
            if home.scheme == "https" and origin.scheme != "https":
                raise InvalidRequestError(f"{home}: redirects from https to {origin}")
            secrets = request.secret_headers if origin == home else {}
            answer, line = self._ask(method, url, origin, {**headers, **secrets})
            if answer.status in {200, 206}:
                return answer, line
            line.release(answer, reusable=answer.length == 0)
            if answer.status not in _REDIRECTS:
                raise _refusal(answer, url, is_signed=url != request.url)
            url = urljoin(url, answer.headers.get("Location", ""))
        raise SourceUnavailableError(f"{redacted(request.url)}: more than {REDIRECTS_MAX} redirects")

    def _ask(
        self, method: str, url: str, origin: Origin, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPResponse, _Line]:
        """One request. A kept connection may have died of age: then once more on another, at last on a new one."""
        parts = urlsplit(url)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        sent = {"Host": _host(origin), "Accept-Encoding": "identity", "User-Agent": _AGENT, **headers}
        while True:
            kept = self._pool.take(origin)
            connection = kept or self._connected(origin)
            try:
                with _at_most(connection, self._stall_s):
                    connection.request(method, target, headers=sent)
                    return connection.getresponse(), _Line(self._pool, origin, connection)
            except TimeoutError as exc:
                connection.close()
                raise SourceSilentError(f"{redacted(url)}: no answer within {self._stall_s:g} s") from exc
            except (OSError, http.client.HTTPException, ValueError) as exc:
                connection.close()
                if kept is None:
                    raise SourceUnavailableError(f"{redacted(url)}: no answer: {exc!r}") from exc

    def _connected(self, origin: Origin) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(origin.host, origin.port, timeout=self._stall_s)
        connection.sock = connect(origin, self._rules, self._trusting, timeout_s=self._stall_s)
        connection.auto_open = 0  # a reconnect by the library would pass the address guard by
        return connection

    def _trusting(self) -> ssl.SSLContext:
        """Whom to trust, read at the first https connection: 20 ms that plain http, as among peers, need not wait."""
        with self._tls_lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
            return self._tls


@contextmanager
def _at_most(connection: http.client.HTTPConnection, duration_s: float) -> Iterator[None]:
    """Cut a connection whose headers only drip: the socket's own timeout starts anew with every byte."""
    sock = connection.sock
    is_cut = threading.Event()

    def cut() -> None:
        is_cut.set()
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(duration_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if not is_cut.is_set():
            raise
    finally:
        timer.cancel()
    if is_cut.is_set():  # http.client takes headers that break off for whole ones
        raise TimeoutError(f"no headers within {duration_s:g} s")


def _host(origin: Origin) -> str:
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    return name if origin.port == DEFAULT_PORTS[origin.scheme] else f"{name}:{origin.port}"


def _refusal(answer: http.client.HTTPResponse, url: str, *, is_signed: bool) -> CacheError:
    """The class of a status that is no success; `is_signed`: of an address that a redirect gave, for a while."""
    status = answer.status
    what = f"{redacted(url)}: HTTP {status} {answer.reason[:80]}"
    if status in {401, 403} and is_signed:
        return SourceUnavailableError(f"{what}: the signed address is refused; a new one is asked for")
    if status in {401, 403}:
        return AccessDeniedError(what)
    if status in {412, 416}:
        return IntegrityMismatchError(f"{what}: the file changed")
    if status in {408, 429} or status >= 500:
        return SourceUnavailableError(what, wait_s=retry_after_of(answer.headers.get))
    return InvalidRequestError(what)


def _judged(answer: http.client.HTTPResponse, request: Request) -> int:
    """Where the body starts in the file; refuses a body that is not of the file we were promised."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceUnavailableError(f"{redacted(request.url)}: an encoded body, which cannot be ranged")
    start, size = 0, answer.length
    # Some servers say 200 where they mean 206; Content-Range decides.
    if found := _CONTENT_RANGE.match(answer.headers.get("Content-Range", "")):
        start, size = int(found[1]), int(found[3])
        if start != request.start or int(found[2]) >= size:
            raise SourceUnavailableError(f"{redacted(request.url)}: asked for {request.start}, got {found[0]}")
    elif answer.status == 206:
        raise SourceUnavailableError(f"{redacted(request.url)}: 206 without a Content-Range we can read")
    if request.size_bytes is not None and size is not None and size != request.size_bytes:
        raise IntegrityMismatchError(f"{redacted(request.url)}: {size} bytes, {request.size_bytes} were promised")
    etag = answer.headers.get("ETag")
    if request.etag and etag and etag.strip('"') != request.etag.strip('"'):
        raise IntegrityMismatchError(f"{redacted(request.url)}: ETag {etag[:80]}, {request.etag} was promised")
    return start


def retry_after_of(header: Callable[[str], str | None]) -> float:
    """Seconds that an answer asks to wait: a number, a date counted from the answer's own, or a quota's reset."""
    text = header("Retry-After") or ""
    if not text and (reset := _QUOTA_RESET.search(header("RateLimit") or "")):
        text = reset[1]
    if _SECONDS.match(text):
        return min(float(text), RETRY_AFTER_MAX_S)
    try:
        wait_s = (parsedate_to_datetime(text) - parsedate_to_datetime(header("Date") or "")).total_seconds()
    except (ValueError, TypeError):  # no date, or one of the two without a zone
        return 0.0
    return min(max(wait_s, 0.0), RETRY_AFTER_MAX_S)
