"""A model from a peer, before anybody asks the origin: from who holds it, else from who is about to, with patience.

Every wait here ends: a peer that fails is not asked again for this fetch, one that makes no progress is left, and
after `LEADS_MAX` of them, or when all that hold it stay busy, the origin is asked as if there were no peers.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from typing import Any, Protocol

from cacheops.download import Transfer
from cacheops.errors import (
    CacheError,
    CanceledError,
    InsufficientCapacityError,
    SourceUnavailableError,
    StorageError,
)
from cacheops.tasks import NodeWish
from metrics.clock import Clock
from nodeagent.errors import ApiError
from nodeagent.kube import NODE_MODEL_CACHES
from nodeagent.peers.choice import Choice, Peer, choose, peers_of
from nodeagent.peers.client import PeerSource
from nodeagent.peers.token import TokenFile

POLL_S = 0.5  # of one small answer, to who fetches for all
STILL_S = 30.0  # no byte more for so long: it will not come from there; its last sync may take some of it
BUSY_POLL_S = 2.0
BUSY_S = 120.0  # a crowd at one holder thins as others become holders
LEADS_MAX = 3  # one that dies is replaced by the next; three in a row is no accident
PROBES_MAX = 8  # a few small questions before gigabytes leave the origin
TAKES_MAX = 2  # models at a time, however many were waited for
HOLDERS_MAX = 3  # asked in one round

Object = dict[str, Any]
log = logging.getLogger(__name__)


class Listing(Protocol):
    """The Kubernetes API as far as peers need it."""

    def list(self, collection: str) -> AsyncIterator[Object]: ...


class Running(Protocol):
    """A fetch under way: what it is for, and what it says of itself."""

    wish: NodeWish
    transfer: Transfer
    via: str
    waits_for: str


Take = Callable[[PeerSource], object]  # puts a peer's bytes on our disk; blocks


class Peers:
    """Everything one agent knows of the others."""

    def __init__(self, node: str, api: Listing, token: TokenFile, clock: Clock) -> None:
        self._node = node
        self._api = api
        self._token = token
        self._clock = clock
        self._takes = asyncio.Semaphore(TAKES_MAX)

    async def bring(self, fetch: Running, take: Take) -> bool:
        """Whether a peer gave it. False: the origin is ours to ask."""
        try:
            return await self._bring(fetch, take)
        except ApiError as exc:
            log.info("%s: peers cannot be looked up: %s", fetch.wish.ref.uri, exc)
            return False
        finally:
            fetch.via = fetch.waits_for = ""

    async def _bring(self, fetch: Running, take: Take) -> bool:
        lost: set[str] = set()
        leads = 0
        patient_until_s = self._clock.now_s() + BUSY_S
        while not fetch.transfer.stop.is_set():
            choice = await self._choice(fetch, lost)
            if choice.holders:
                tried = choice.holders[:HOLDERS_MAX]
                if await self._from_any(fetch, take, tried, lost):
                    return True
                if self._clock.now_s() > patient_until_s:
                    return False
                if any(peer.node not in lost for peer in tried):  # busy, that is
                    await self._clock.sleep(BUSY_POLL_S)
                continue
            lead = choice.lead or await self._early_bird(fetch, choice)
            if lead is None or leads == LEADS_MAX:
                return False
            leads += 1
            if await self._until_there(fetch, lead) and await self._from_any(fetch, take, (lead,), lost):
                return True
            lost.add(lead.node)
        raise CanceledError(f"{fetch.wish.ref.uri}: stopped while it waited for a peer")

    async def _choice(self, fetch: Running, lost: Collection[str]) -> Choice:
        digest = fetch.wish.tree.digest
        objects = [obj async for obj in self._api.list(NODE_MODEL_CACHES)]
        return choose(peers_of(objects, digest, now_s=self._clock.now_s()), self._node, digest, without=lost)

    async def _early_bird(self, fetch: Running, choice: Choice) -> Peer | None:
        """Who fetches already though it was our turn: it began before it could know of us. All are asked at once."""
        asked = choice.waiting[:PROBES_MAX]
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(asyncio.to_thread(self._has_begun, fetch, peer)) for peer in asked]
        return next((peer for peer, answer in zip(asked, answers, strict=True) if answer.result()), None)

    def _has_begun(self, fetch: Running, peer: Peer) -> bool:
        source = self._source(fetch, peer)
        try:
            return source.staged_bytes() != 0
        except CacheError:
            return False
        finally:
            source.close()

    async def _from_any(self, fetch: Running, take: Take, holders: Sequence[Peer], lost: set[str]) -> bool:
        for peer in holders:
            fetch.waits_for, fetch.via = "", peer.node
            source = self._source(fetch, peer)
            try:
                async with self._takes:
                    await asyncio.to_thread(take, source)
            except (CanceledError, InsufficientCapacityError, StorageError):
                raise  # ours, not the peer's
            except SourceUnavailableError as exc:  # busy: later, perhaps
                log.info("%s: %s", fetch.wish.ref.uri, exc)
            except CacheError as exc:
                lost.add(peer.node)
                log.warning("%s: not from %s: %s", fetch.wish.ref.uri, peer.node, exc)
            else:
                log.info("%s: from %s", fetch.wish.ref.uri, peer.node)
                return True
            finally:
                source.close()
        fetch.via = ""
        return False

    async def _until_there(self, fetch: Running, lead: Peer) -> bool:
        """Wait while who fetches for all gets on; whether it holds the model now."""
        fetch.waits_for = lead.node
        best_bytes, still_since_s = 0, self._clock.now_s()
        source = self._source(fetch, lead)
        try:
            while not fetch.transfer.stop.is_set():
                staged_bytes = await asyncio.to_thread(source.staged_bytes)
                if staged_bytes is None:
                    return True
                now_s = self._clock.now_s()
                if staged_bytes > best_bytes:
                    best_bytes, still_since_s = staged_bytes, now_s
                elif now_s - still_since_s > STILL_S:
                    log.warning("%s: %s makes no progress", fetch.wish.ref.uri, lead.node)
                    return False
                await self._clock.sleep(POLL_S)
        except CacheError as exc:
            log.warning("%s: not by %s: %s", fetch.wish.ref.uri, lead.node, exc)
        finally:
            source.close()
        return False

    def _source(self, fetch: Running, peer: Peer) -> PeerSource:
        return PeerSource(peer, fetch.wish.tree.digest, self._token.header(), self._clock)
