"""When peers fail, are busy or stand still, somebody else is asked, and at last the origin: never nobody."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cacheops.download import Transfer
from cacheops.errors import CanceledError, InsufficientCapacityError
from cacheops.journal import Journal
from cacheops.model import FileEntry, ModelRef
from cacheops.parts import PartFile, PartStore
from cacheops.stock import WantedTree
from cacheops.tasks import NodeWish
from metrics.clock import ManualClock
from nodeagent.errors import ApiError
from nodeagent.peers.choice import Peer, choose
from nodeagent.peers.client import PeerLostError, PeerSilentError, PeerSource
from nodeagent.peers.follow import BUSY_POLL_S, BUSY_S, LEADS_MAX, LOOK_AROUND_S, STILL_S, TAKEN_BYTES_MIN, Peers
from nodeagent.peers.token import TokenFile
from nodeagent.report import rfc3339

Object = dict[str, Any]
Answer = Callable[[], web.Response]
DIGEST = "d" * 64
WISH = NodeWish(ref=ModelRef(uri="hf://a/b"), tree=WantedTree(key="k", digest=DIGEST, size_bytes=1))
CLOSED = "127.0.0.1:9"  # discard: nobody listens


@dataclass
class Running:
    """A fetch under way."""

    wish: NodeWish = WISH
    transfer: Transfer = field(default_factory=Transfer)
    via: str = ""
    waits_for: str = ""


@dataclass
class Town:
    """Other nodes as the API tells of them; time passes by our own sleeping only."""

    peers: Peers = field(init=False)
    folder: Path
    clock: ManualClock = field(default_factory=lambda: ManualClock(1000.0))
    nodes: dict[str, tuple[str, str]] = field(default_factory=dict)  # name → phase, address
    took: list[str] = field(default_factory=list)
    is_down: bool = False

    def __post_init__(self) -> None:
        (self.folder / "token").write_text("a-token-that-all-agents-share\n")
        self.peers = Peers("me", self, TokenFile(self.folder / "token"), self.clock)

    async def list(self, _collection: str, *, is_fresh: bool = False) -> AsyncIterator[Object]:
        if self.is_down:
            raise ApiError(0, "no answer")
        for name, (phase, address) in self.nodes.items():
            models = [{"digest": DIGEST, "phase": phase}]
            yield {
                "metadata": {"name": name},
                "spec": {},
                "status": {"address": address, "time": rfc3339(self.clock.now_s()), "models": models},
            }

    async def bring(self, take: Callable[[PeerSource], object], running: Running | None = None) -> bool:
        return await self.peers.bring(running or Running(), take)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


@asynccontextmanager
async def progressing(answer: Answer) -> AsyncIterator[str]:
    """A peer that tells its progress; gives its address."""

    async def progress(_request: web.Request) -> web.Response:
        return answer()

    app = web.Application()
    app.add_routes([web.get(f"/v1/trees/{DIGEST}/progress", progress)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def lost(_source: PeerSource) -> None:
    raise PeerLostError("lies")


async def test_without_peers_the_origin_is_asked_at_once(town: Town) -> None:
    assert await town.bring(lost) is False
    assert town.clock.now_s() == 1000.0


async def test_an_api_that_is_down_is_no_reason_to_wait(town: Town) -> None:
    town.is_down = True

    assert await town.bring(lost) is False


async def test_every_holder_that_lies_is_left_for_the_next_and_none_is_asked_twice(town: Town) -> None:
    town.nodes = {f"n{number}": ("Ready", CLOSED) for number in range(5)}
    asked = []

    def take(source: PeerSource) -> None:
        asked.append(source)
        if len(asked) < 5:
            lost(source)

    assert await town.bring(take) is True
    assert len(asked) == 5
    assert await town.bring(lost) is False
    assert town.clock.now_s() == 1000.0  # without a pause: nobody was busy


async def test_what_our_own_disk_refuses_is_nobody_elses_fault(town: Town) -> None:
    town.nodes = {"n": ("Ready", CLOSED)}

    def take(_source: PeerSource) -> None:
        raise InsufficientCapacityError("no room")

    with pytest.raises(InsufficientCapacityError):
        await town.bring(take)


async def test_holders_that_stay_busy_are_waited_for_within_bounds(town: Town) -> None:
    town.nodes = {"n": ("Ready", CLOSED)}

    def take(source: PeerSource) -> None:
        source.progress()

    async with progressing(lambda: web.Response(status=503, headers={"Retry-After": "1"})) as address:
        town.nodes = {"n": ("Ready", address)}
        assert await town.bring(take) is False

    assert BUSY_S <= town.clock.now_s() - 1000.0 <= BUSY_S + 2 * BUSY_POLL_S


async def test_who_fetches_for_all_is_waited_for_as_long_as_it_gets_on(town: Town) -> None:
    told = iter(range(1, 400))
    running = Running()
    waited_for = set()

    def answer() -> web.Response:
        waited_for.add(running.waits_for)
        staged_bytes = next(told)
        return web.json_response({"published": staged_bytes == 399, "stagedBytes": staged_bytes})

    async with progressing(answer) as address:
        town.nodes = {"n": ("Fetching", address)}
        assert await town.bring(lambda _source: None, running) is True

    assert town.clock.now_s() - 1000.0 > 2 * STILL_S
    assert (waited_for, running.waits_for, running.via) == ({"n"}, "", "")


async def test_who_stands_still_or_dies_is_left_and_after_a_few_of_them_the_origin_is_asked(town: Town) -> None:
    still = json.dumps({"published": False, "stagedBytes": 5})
    async with progressing(lambda: web.Response(text=still)) as address:
        town.nodes = {"still": ("Fetching", address)} | {f"dead-{n}": ("Fetching", CLOSED) for n in range(9)}
        assert await town.bring(lost) is False

    assert town.clock.now_s() - 1000.0 <= LEADS_MAX * (STILL_S + 1)


async def test_a_fetch_that_nobody_needs_any_more_stops_waiting(town: Town) -> None:
    running = Running()

    def answer() -> web.Response:
        running.transfer.stop.set()
        return web.json_response({"published": False, "stagedBytes": 5})

    async with progressing(answer) as address:
        town.nodes = {"n": ("Fetching", address)}
        with pytest.raises(CanceledError):
            async with asyncio.timeout(20):
                await town.bring(lost, running)


async def test_who_began_before_it_could_know_of_us_is_followed_though_it_was_our_turn(town: Town) -> None:
    asked = []

    def answer() -> web.Response:
        asked.append(1)
        return web.json_response({"published": len(asked) > 2, "stagedBytes": len(asked)})

    async with progressing(answer) as address:
        # By name it is our turn before every one of these; the last one has begun.
        others = [f"n{number}" for number in range(99) if choose([nameless(number)], "me", DIGEST).lead is None]
        town.nodes = {name: ("Pending", CLOSED) for name in others[:3]} | {others[3]: ("Pending", address)}
        assert await town.bring(lambda _source: None) is True

    assert len(asked) == 3


@pytest.mark.parametrize(
    ("last", "is_followed"),
    [
        pytest.param(web.json_response({"published": False, "stagedBytes": 5}), True, id="it begins"),
        pytest.param(web.Response(status=404), False, id="it gives way"),
    ],
)
async def test_who_is_deciding_when_our_turn_comes_is_waited_for_until_it_has_decided(
    town: Town, last: web.Response, is_followed: bool
) -> None:
    asked: list[int] = []

    def answer() -> web.Response:
        asked.append(1)
        if len(asked) <= 3:
            return web.json_response({"published": False, "stagedBytes": 0})
        if len(asked) > 5:
            return web.json_response({"published": True})
        return web.Response(status=last.status, body=last.body, content_type=last.content_type)

    async with progressing(answer) as address:
        other = next(f"n{number}" for number in range(99) if choose([nameless(number)], "me", DIGEST).lead is None)
        town.nodes = {other: ("Pending", address)}
        assert await town.bring(lambda _source: None) is is_followed

    assert len(asked) == (6 if is_followed else 4)


async def test_a_holder_that_falls_silent_midway_is_asked_for_the_rest(town: Town) -> None:
    town.nodes = {"n": ("Ready", CLOSED)}
    running, tries = Running(), []

    def take(_source: PeerSource) -> None:
        tries.append(1)
        if len(tries) < 4:
            running.transfer.files = (staged(town.folder, TAKEN_BYTES_MIN),)
            raise PeerSilentError("busy")

    assert await town.bring(take, running) is True
    assert len(tries) == 4


async def test_a_holder_that_falls_silent_without_a_byte_is_left(town: Town) -> None:
    town.nodes = {"n": ("Ready", CLOSED)}

    def take(_source: PeerSource) -> None:
        raise PeerSilentError("hangs")

    assert await town.bring(take) is False


async def test_while_the_one_whose_turn_it_is_does_not_begin_others_are_looked_for(town: Town) -> None:
    def idle() -> web.Response:
        town.nodes["late"] = ("Ready", CLOSED)
        return web.Response(status=404)

    async with progressing(idle) as address:
        town.nodes = {"first": ("Fetching", address)}
        assert await town.bring(lambda _source: None) is True

    assert town.clock.now_s() - 1000.0 == LOOK_AROUND_S


async def test_when_nobody_has_begun_and_it_is_our_turn_the_origin_is_asked_at_once(town: Town) -> None:
    async with progressing(lambda: web.Response(status=404)) as address:
        others = [f"n{number}" for number in range(99) if choose([nameless(number)], "me", DIGEST).lead is None]
        town.nodes = {others[0]: ("Pending", address), others[1]: ("Pending", CLOSED)}
        assert await town.bring(lost) is False

    assert town.clock.now_s() == 1000.0


def staged(folder: Path, fetched_bytes: int) -> PartFile:
    journal = Journal(folder / "journal")
    journal.close()
    part = PartFile(0, FileEntry(path="a", size_bytes=fetched_bytes), PartStore(Path(), journal))
    part.fetched_bytes = fetched_bytes
    return part


def nameless(number: int) -> Peer:
    return Peer(node=f"n{number}", address=CLOSED)
