"""An HTTP origin that misbehaves on order, for tests of what a downloader makes of it."""

import hashlib
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

DRIP_S = 20.0  # how long a dripping answer stays open: longer than any test's patience


@dataclass
class Fault:
    """How one answer goes wrong."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # bytes of the body, then the connection ends
    whole: bool = False  # 200 and everything, whatever was asked
    flip: bool = False  # a wrong bit in the body
    size: int | None = None  # claims this size of the file
    drip: bool = False  # one byte, then silence with an open connection


@dataclass
class Origin:
    """Files by path over HTTP with ranges; `faults[path]` is used up, one per GET, `always[path]` stays."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    always: dict[str, Fault] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    sent_bytes: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def add(self, path: str, data: bytes) -> None:
        self.files[path] = data
        self.etags[path] = f'"{hashlib.md5(data, usedforsecurity=False).hexdigest()}"'

    def sums(self, folder: str) -> None:
        """A SHA256SUMS file for what lies below a folder."""
        found = {path: data for path, data in self.files.items() if path.startswith(folder)}
        lines = [f"{hashlib.sha256(data).hexdigest()}  {path.removeprefix(folder)}\n" for path, data in found.items()]
        self.add(f"{folder}SHA256SUMS", "".join(lines).encode())

    def gets(self, path: str) -> list[str]:
        """The ranges that were asked of a path."""
        return [headers.get("Range", "") for method, seen, headers in self.seen if method == "GET" and seen == path]


class Handler(BaseHTTPRequestHandler):
    """One connection of a client."""

    protocol_version = "HTTP/1.1"
    origin: Origin

    def do_HEAD(self) -> None:
        self.answer("HEAD")

    def do_GET(self) -> None:
        self.answer("GET")

    def answer(self, method: str) -> None:
        self.origin.seen.append((method, self.path, dict(self.headers)))
        fault = self.origin.always.get(self.path) or Fault()
        if method == "GET" and self.origin.faults.get(self.path):
            fault = self.origin.faults[self.path].pop(0)
        data = self.origin.files.get(self.path)
        if fault.status is not None or data is None:
            self.send_response(fault.status or 404)
            for name, value in fault.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.deliver(method, data, fault)

    def deliver(self, method: str, data: bytes, fault: Fault) -> None:
        start, stop = 0, len(data)
        asked = self.headers.get("Range", "")
        ranged = asked.startswith("bytes=") and not fault.whole
        if ranged:
            first, last = asked.removeprefix("bytes=").split("-")
            start, stop = int(first), int(last) + 1 if last else len(data)
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{fault.size or len(data)}")
        self.send_header("Content-Length", str(stop - start))
        self.send_header("ETag", fault.headers.get("ETag", self.origin.etags[self.path]))
        self.end_headers()
        if method == "GET":
            self.body(bytearray(data[start:stop]), fault)

    def body(self, body: bytearray, fault: Fault) -> None:
        if fault.flip:
            body[len(body) // 2] ^= 1
        if fault.drip:
            self.wfile.write(body[:1])
            self.wfile.flush()
            self.origin.over.wait(DRIP_S)
            body = bytearray()
        if fault.cut_after is not None or fault.drip:
            self.close_connection = True
            body = body[: fault.cut_after]
        try:
            self.wfile.write(body)
            self.origin.sent_bytes += len(body)
        except OSError:
            self.close_connection = True  # the client had enough

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class QuietServer(ThreadingHTTPServer):
    """A server whose clients may hang up in the middle."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Not worth a traceback."""


@contextmanager
def serving(origin: Origin, tls: ssl.SSLContext | None = None) -> Iterator[Origin]:
    """The origin on a loopback port of its own, its `url` filled in."""
    server = QuietServer(("127.0.0.1", 0), type("Bound", (Handler,), {"origin": origin}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    origin.url = f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield origin
    finally:
        origin.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
