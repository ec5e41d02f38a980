"""A crowd of clients that keeps so many requests in flight, whatever the replicas do: load that a test sets by hand."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable

import aiohttp

from metrics.clock import Clock, WallClock

CLIENTS = 64  # more at once than any test asks for
LOOK_S = 0.1
# Clients that all began at once would also end at once, and be counted twice on their way to another replica.
ANSWER_TOKENS = range(40, 80)


class Crowd:
    """Each client asks the replica that has the fewest of our requests, again and again, over real HTTP."""

    def __init__(
        self, urls: Callable[[], Iterable[str]], session: aiohttp.ClientSession, clock: Clock | None = None
    ) -> None:
        self._urls = urls
        self._session = session
        self._clock = clock or WallClock()
        self._held: Counter[str] = Counter()
        self.wanted = 0  # requests in flight, at most CLIENTS
        self.answer_tokens = ANSWER_TOKENS  # of each request from now on; long ones stay where they are
        self._patience: set[asyncio.Timeout] = set()  # of each request in flight
        self.served = 0
        self.broken: list[str] = []  # finish reasons of answers that began and did not end well

    async def run(self) -> None:
        """Ask for ever."""
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(self._one(number))

    def hang_up(self) -> None:
        """Every client gives up the request that it has in flight."""
        for each in self._patience:
            if not each.expired():
                each.reschedule(0.0)

    async def _one(self, number: int) -> None:
        while True:
            url = min(self._urls(), key=self._held.__getitem__, default="") if number < self.wanted else ""
            tokens = self.answer_tokens[(7 * number) % len(self.answer_tokens)]
            if not url or not await self._is_answered(url, tokens):
                await self._clock.sleep(LOOK_S)

    async def _is_answered(self, url: str, tokens: int) -> bool:
        """One request; False when that replica takes none: it is on its way in or out, and another will."""
        self._held[url] += 1
        patience = asyncio.timeout(None)
        try:
            async with patience:
                self._patience.add(patience)
                return await self._ask(url, tokens)
        except (aiohttp.ClientConnectionError, TimeoutError):
            return False
        finally:
            self._patience.discard(patience)
            self._held[url] -= 1

    async def _ask(self, url: str, tokens: int) -> bool:
        body = {"model": "m", "prompt": "again", "max_tokens": tokens, "ignore_eos": True}
        async with self._session.post(f"{url}/v1/completions", json=body) as response:
            if response.status != 200:
                return False
            reason = (await response.json())["choices"][0]["finish_reason"]
        if reason == "length":
            self.served += 1
        else:
            self.broken.append(str(reason))
        return True
