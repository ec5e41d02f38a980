"""A model from a peer, before anybody asks the origin: from who holds it, else from who is about to, with patience.

Every wait here ends: a peer that fails is not asked again for this fetch, one that makes no progress is left, and
after `LEADS_MAX` of them, or when all that hold it stay busy, the origin is asked as if there were no peers. A peer
that is only slow to answer, or silent for a moment, has not failed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import closing
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
from nodeagent.peers.client import PeerSilentError, PeerSource, Progress
from nodeagent.peers.lead import LeadSource, Patience
from nodeagent.peers.token import TokenFile

POLL_S = 0.5  # of one small answer, to who fetches for all
STILL_S = 30.0  # no byte more for so long: it will not come from there; its last sync may take some of it
BUSY_POLL_S = 2.0
BUSY_S = 120.0  # a crowd at one holder thins as others become holders
LEADS_MAX = 3  # one that dies is replaced by the next; three in a row is no accident
PROBES_MAX = 32  # small questions, each once, before gigabytes leave the origin
DECIDE_S = 15.0  # for the others to make up their minds: a look at the API, on a node that may be busy
LOOK_AROUND_S = 2.0  # while the one whose turn it is does not begin
TAKEN_BYTES_MIN = 1 << 20  # who gave so much before it fell silent is asked again
TAKES_MAX = 2  # models at a time, however many were waited for
HOLDERS_MAX = 3  # asked in one round

OURS = (CanceledError, InsufficientCapacityError, StorageError)  # no fault of the peer's

Object = dict[str, Any]
log = logging.getLogger(__name__)


class Listing(Protocol):
    """The Kubernetes API as far as peers need it."""

    def list(self, collection: str, *, is_fresh: bool = False) -> AsyncIterator[Object]: ...


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
        self._follows = asyncio.Semaphore(TAKES_MAX)  # apart: these take as long as the origin does
        self._patience = Patience()

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
        hopes = _Hopes(self._clock)
        patient_until_s = self._clock.now_s() + BUSY_S
        while not fetch.transfer.stop.is_set():
            choice = await self._choice(fetch, hopes.lost)
            if choice.holders:
                tried = choice.holders[:HOLDERS_MAX]
                if await self._from_any(fetch, take, tried, hopes.lost):
                    return True
                if self._clock.now_s() > patient_until_s:
                    return False
                if any(peer.node not in hopes.lost for peer in tried):  # busy, that is
                    await self._clock.sleep(BUSY_POLL_S)
                continue
            lead = choice.lead or await self._early_bird(fetch, hopes.lost)
            if lead is None or hopes.leads_left == LEADS_MAX:
                return False
            hopes.may_follow = choice.may_follow
            if await self._from_lead(fetch, take, lead, hopes):
                return True
        raise CanceledError(f"{fetch.wish.ref.uri}: stopped while it waited for a peer")

    async def _choice(self, fetch: Running, lost: Collection[str], *, is_fresh: bool = False) -> Choice:
        digest = fetch.wish.tree.digest
        objects = [obj async for obj in self._api.list(NODE_MODEL_CACHES, is_fresh=is_fresh)]
        return choose(peers_of(objects, digest, now_s=self._clock.now_s()), self._node, digest, without=lost)

    async def _early_bird(self, fetch: Running, lost: Collection[str]) -> Peer | None:
        """Who fetches already though it seems our turn: it began before it could know of us. None: it is our turn.

        Every node says that it is deciding before it looks at who wants the model. So of two at least one sees the
        other; and here who is first by name waits until the others, who then see it, have given way or begun.
        """
        until_s = self._clock.now_s() + DECIDE_S
        while True:
            choice = await self._choice(fetch, lost, is_fresh=True)  # no cache of the API's, which may not know of us
            if choice.holders or choice.lead:
                return choice.lead or choice.holders[0]
            told = await self._told(fetch, choice.waiting[:PROBES_MAX])
            if begun := next((peer for peer, seen in told if seen.is_published or seen.staged_bytes), None):
                return begun
            if not any(seen.is_deciding for _, seen in told) or self._clock.now_s() > until_s:
                return None
            await self._clock.sleep(POLL_S)

    async def _told(self, fetch: Running, peers: Sequence[Peer]) -> list[tuple[Peer, Progress]]:
        """What all of them say, asked at once; who is busy may be deciding, who is gone is not."""
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(asyncio.to_thread(self._asked, fetch, peer)) for peer in peers]
        return [(peer, answer.result()) for peer, answer in zip(peers, answers, strict=True)]

    def _asked(self, fetch: Running, peer: Peer) -> Progress:
        source = self._source(fetch, peer)
        try:
            return source.progress()
        except PeerSilentError:
            return Progress(is_deciding=True)
        except CacheError:
            return Progress()
        finally:
            source.close()

    async def _from_any(self, fetch: Running, take: Take, holders: Sequence[Peer], lost: set[str]) -> bool:
        for peer in holders:
            fetch.waits_for, fetch.via = "", peer.node
            fetch.transfer.files = ()
            source = self._source(fetch, peer)
            try:
                await _taken(take, source, self._takes)
            except OURS:
                raise
            except SourceUnavailableError as exc:  # busy: later, perhaps
                log.info("%s: %s", fetch.wish.ref.uri, exc)
            except CacheError as exc:
                # Broken off midway is no lie: what came is kept, and the rest may come from there, too.
                if not isinstance(exc, PeerSilentError) or fetch.transfer.fetched_bytes < TAKEN_BYTES_MIN:
                    lost.add(peer.node)
                log.warning("%s: not from %s: %s", fetch.wish.ref.uri, peer.node, exc)
            else:
                log.info("%s: from %s", fetch.wish.ref.uri, peer.node)
                return True
        fetch.via = ""
        return False

    async def _from_lead(self, fetch: Running, take: Take, lead: Peer, hopes: "_Hopes") -> bool:
        """Whether who fetches it for all gave it to us: when it held all of it, or while it came."""
        seen = await self._is_there(fetch, lead, hopes)
        if seen.is_published:
            return await self._from_any(fetch, take, (lead,), hopes.lost)
        return seen.is_open and await self._follow(fetch, take, lead, hopes)

    async def _follow(self, fetch: Running, take: Take, lead: Peer, hopes: "_Hopes") -> bool:
        """Take what the lead has whole while it fetches the rest. Whatever goes wrong: wait for all of it instead.

        It still counts as waiting: it takes no turn of ours, and nobody is to follow us.
        """
        fetch.waits_for, fetch.transfer.files = lead.node, ()
        digest, stop = fetch.wish.tree.digest, fetch.transfer.stop
        source = LeadSource(lead, digest, self._token.header(), self._clock, stop=stop, patience=self._patience)
        try:
            await _taken(take, source, self._follows)
        except OURS:
            raise
        except CacheError as exc:
            hopes.unfollowed.add(lead.node)
            log.warning("%s: %s is not followed any more: %s", fetch.wish.ref.uri, lead.node, exc)
            return False
        else:
            log.info("%s: from %s, while it fetched it", fetch.wish.ref.uri, lead.node)
            return True
        finally:
            fetch.waits_for = ""

    async def _is_there(self, fetch: Running, lead: Peer, hopes: "_Hopes") -> Progress:
        """Wait while who fetches for all gets on, until it holds the model or gives what it has of it.

        Neither: look around again.
        """
        fetch.waits_for = lead.node
        source = self._source(fetch, lead)
        try:
            while not fetch.transfer.stop.is_set():
                try:
                    seen = await asyncio.to_thread(source.progress)
                except PeerSilentError as exc:
                    log.info("%s: %s", fetch.wish.ref.uri, exc)
                    seen = hopes.seen(lead.node)
                can_follow = hopes.may_follow and lead.node not in hopes.unfollowed and not self._follows.locked()
                if seen.is_published or (seen.is_open and can_follow):
                    return seen
                if not hopes.note(lead.node, seen):
                    log.warning("%s: %s makes no progress", fetch.wish.ref.uri, lead.node)
                    break
                if not (seen.staged_bytes or seen.is_deciding):  # it has its reasons: others may have begun
                    await self._clock.sleep(LOOK_AROUND_S)
                    break
                await self._clock.sleep(POLL_S)
        except CacheError as exc:
            hopes.give_up(lead.node)
            log.warning("%s: not by %s: %s", fetch.wish.ref.uri, lead.node, exc)
        finally:
            source.close()
            fetch.waits_for = ""  # from here on we decide: others may ask us
        return Progress()

    def _source(self, fetch: Running, peer: Peer) -> PeerSource:
        return PeerSource(peer, fetch.wish.tree.digest, self._token.header(), self._clock)


async def _taken(take: Take, source: PeerSource, turns: asyncio.Semaphore) -> None:
    """All that a peer gives of a model, in its turn."""
    with closing(source):
        async with turns:
            await asyncio.to_thread(take, source)


class _Hopes:
    """What others showed us of one model, and whom we hope for no more. Patience counts from the last progress."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._best: dict[str, tuple[Progress, float]] = {}  # by node: the best it told, and when
        self.lost: set[str] = set()
        self.may_follow = False  # whoever leads: we are among the few
        self.unfollowed: set[str] = set()  # leads that are only waited for
        self.leads_left = 0

    def seen(self, node: str) -> Progress:
        """The best that a node told."""
        return self._best[node][0] if node in self._best else Progress(is_deciding=True)

    def note(self, node: str, seen: Progress) -> bool:
        """Whether there is hope in it."""
        now_s = self._clock.now_s()
        best, since_s = self._best.get(node, (None, now_s))
        if best is None or seen.staged_bytes > best.staged_bytes:
            self._best[node] = (seen, now_s)
        elif now_s - since_s > STILL_S:
            self.give_up(node)
        return node not in self.lost

    def give_up(self, node: str) -> None:
        """Ask it no more."""
        self.lost.add(node)
        self.leads_left += 1
