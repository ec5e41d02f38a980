"""What an answer's headers ask for, and what it means when they do not come."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from cacheops.addresses import AddressRules
from cacheops.errors import SourceSilentError, SourceUnavailableError
from cacheops.transport import RETRY_AFTER_MAX_S, HttpRanges, Request, retry_after_of
from metrics.clock import WallClock

NOON = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        pytest.param({}, 0.0, id="nothing"),
        pytest.param({"Retry-After": "90"}, 90.0, id="seconds"),
        pytest.param({"Retry-After": "86400"}, RETRY_AFTER_MAX_S, id="a day is cut to an hour"),
        pytest.param({"Retry-After": "9" * 400}, 0.0, id="no number"),
        pytest.param({"Retry-After": "²"}, 0.0, id="a digit that is none"),
        pytest.param({"Retry-After": "-5"}, 0.0, id="negative"),
        pytest.param({"Retry-After": "Sat, 21 Nov 2026 12:02:00 GMT", "Date": NOON}, 120.0, id="a date"),
        pytest.param({"Retry-After": "Sat, 21 Nov 2026 11:59:00 GMT", "Date": NOON}, 0.0, id="a date gone by"),
        pytest.param({"Retry-After": "Sat, 21 Nov 2026 12:02:00 GMT"}, 0.0, id="a date beside none"),
        pytest.param({"Retry-After": "soon", "Date": NOON}, 0.0, id="words"),
        pytest.param({"RateLimit": '"api";r=0;t=55'}, 55.0, id="a quota that is used up"),
        pytest.param({"RateLimit": '"api";r=7;t=55'}, 0.0, id="a quota that is not"),
        pytest.param({"RateLimit": '"api";r=0;t=55', "Retry-After": "5"}, 5.0, id="both"),
    ],
)
def test_a_wish_to_wait_is_heard_within_bounds(headers: dict[str, str], wait_s: float) -> None:
    assert retry_after_of(headers.get) == wait_s


@pytest.mark.parametrize(
    "drips", [pytest.param(b"", id="nothing"), pytest.param(b"HTTP/1.1 200 OK\r\nX: ", id="drips")]
)
def test_who_is_there_and_sends_no_headers_in_time_is_silent_and_not_gone(drips: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        ranges = HttpRanges(AddressRules(hosts=frozenset({address})), WallClock(), stall_s=0.2)

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ranges.get, Request(url=f"http://{address}/"))
            with server.accept()[0] as line:
                line.sendall(drips)
                while not asked.done():
                    with suppress(OSError):  # it hung up this very moment
                        line.sendall(drips[-1:])
                    time.sleep(0.01)
        with pytest.raises(SourceSilentError):
            asked.result()


def test_who_is_gone_is_not_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    ranges = HttpRanges(AddressRules(hosts=frozenset({address})), WallClock(), stall_s=0.2)

    with pytest.raises(SourceUnavailableError, match="cannot connect") as caught:
        ranges.get(Request(url=f"http://{address}/"))

    assert not isinstance(caught.value, SourceSilentError)
