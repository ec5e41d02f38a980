"""Metrics pages of thousands of emulated vLLM pods, served by the least HTTP server there is: the client is measured.

All pods of a service share one path, `/metrics/SERVICE`; each has an address of its own within 127.0.0.0/8, which
Linux answers where a server listens on every address.
"""

import asyncio
import math
from dataclasses import dataclass, field
from functools import lru_cache

from metrics.clock import Clock
from metrics.pages import vllm_page

RUNNING_MAX = 8  # requests that a replica runs at once; the others wait
STEPS_PER_S = 20  # of an engine under load
_MODEL = "MODEL-OF-THE-PAGE"
_HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\nContent-Length: {}\r\n\r\n"


@dataclass(slots=True)
class Load:
    """What one service has to do, spread evenly over its replicas."""

    requests: float = 0.0
    replicas: int = 1
    first_served_s: float | None = None  # the first page since `mark` that shows requests waiting
    is_marked: bool = field(default=False)

    def mark(self) -> None:
        """Notice the next page that shows a queue."""
        self.is_marked, self.first_served_s = True, None

    @property
    def per_replica(self) -> tuple[int, int]:
        """Requests running and waiting."""
        each = self.requests / max(1, self.replicas)
        return round(min(each, RUNNING_MAX)), max(0, math.ceil(each - RUNNING_MAX))


@lru_cache(maxsize=256)  # of one second: as many as there are different loads
def _template(steps: int, running: int, waiting: int) -> bytes:
    page = vllm_page(steps=steps, model_name=_MODEL).decode()
    labels = f'{{engine="0",model_name="{_MODEL}"}}'
    gauges = (("running", 8.0, running), ("waiting", 3.0, waiting))
    for name, written, value in gauges:
        line = f"vllm:num_requests_{name}{labels} "
        if f"{line}{written}\n" not in page:
            raise RuntimeError(f"the page has no line {line}{written}")
        page = page.replace(f"{line}{written}\n", f"{line}{float(value)}\n")
    return page.encode()


class Pages:
    """The pages of all services; loads may be changed at any time."""

    def __init__(self, clock: Clock) -> None:
        self.loads: dict[str, Load] = {}
        self.served = 0
        self._clock = clock
        self._started_s = clock.now_s()

    async def listen(self) -> int:
        """Serve on every address of this machine's loopback; gives the port."""
        server = await asyncio.get_running_loop().create_server(
            lambda: _Connection(self),
            "0.0.0.0",
            0,
            backlog=4096,
        )
        self._server = server
        return int(server.sockets[0].getsockname()[1])

    def answer(self, service: str) -> bytes:
        """One response."""
        load, now_s = self.loads[service], self._clock.now_s()
        running, waiting = load.per_replica
        if load.is_marked and waiting:
            load.is_marked, load.first_served_s = False, now_s
        self.served += 1
        steps = 1000 + int(now_s - self._started_s) * STEPS_PER_S
        body = _template(steps, running, waiting).replace(_MODEL.encode(), f"org/{service}-instruct".encode())
        return _HEAD.format(len(body)).encode() + body


class _Connection(asyncio.Protocol):
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        if not transport.get_extra_info("sockname")[0].startswith("127."):
            transport.abort()  # nobody from outside

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            request, _, self._received = self._received.partition(b"\r\n\r\n")
            path = request.split(b" ", 2)[1].decode()
            self._transport.write(self._pages.answer(path.rsplit("/", 1)[1]))
