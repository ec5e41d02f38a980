"""An open-loop client: it sends when the traffic says so, however the servers fare, and keeps score of every request.

Times to first token count from the scheduled moment, so a sender that falls behind cannot hide a wait.
A request is served when exactly its tokens came and the server said it was the length that ended it.
Anything else is lost, for a reason that is kept.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

import aiohttp

from metrics.clock import Clock
from simulations.trace import Arrival

REQUEST_TIMEOUT_S = 120.0  # per request, from sending; OpenAI's clients wait 600 s
VOCABULARY = 30_000  # token ids below any model's vocabulary size
SPECIAL_IDS = 1_000  # the lowest ids are often control tokens
LINE_BYTES_MAX = 2**18  # one server-sent event
ERROR_CHARACTERS_MAX = 200  # of a server's error text, in a record
USERS_LOOK_S = 0.01  # a user's pause between two requests
JSON_HEADERS = {"Content-Type": "application/json"}


class Outcome(StrEnum):
    """How a request ended."""

    SERVED = "served"
    HTTP_ERROR = "http error"
    CONNECTION = "connection lost"
    ABORTED = "aborted by the server"
    TRUNCATED = "truncated"
    TIMEOUT = "timed out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """One request's story; times are seconds since the traffic's start."""

    scheduled_s: float
    sent_s: float
    end_s: float
    outcome: Outcome
    prompt_tokens: int
    output_tokens: int  # wanted
    received_tokens: int = 0
    first_token_s: float | None = None
    detail: str = ""

    @property
    def ttft_s(self) -> float | None:
        """From the moment it was due to its first token; None when none came."""
        return None if self.first_token_s is None else self.first_token_s - self.scheduled_s


@dataclass(slots=True)
class CompletionStream:
    """Reads the server-sent events of one streamed completion; no I/O."""

    first_token_s: float | None = None
    received_tokens: int = 0
    finish_reason: str | None = None
    done: bool = False
    error: str = ""

    def feed(self, line: bytes, now_s: float) -> None:
        """Take one line of the stream."""
        payload = line.removeprefix(b"data:").strip()
        if payload == line.strip():  # comments, blank lines and other fields
            return
        if payload == b"[DONE]":
            self.done = True
            return
        self._take(json.loads(payload), now_s)

    def _take(self, event: dict[str, object], now_s: float) -> None:
        if "error" in event:
            self.error = str(event["error"])[:ERROR_CHARACTERS_MAX]
        usage = event.get("usage")
        if isinstance(usage, dict):
            self.received_tokens = int(usage.get("completion_tokens", 0))
        choices = event.get("choices")
        if isinstance(choices, list) and choices:
            if self.first_token_s is None:
                self.first_token_s = now_s
            self.finish_reason = choices[0].get("finish_reason") or self.finish_reason

    def verdict(self, wanted_tokens: int) -> tuple[Outcome, str]:
        """Whether the whole answer came, judged at the end of the stream."""
        if self.error:
            return Outcome.HTTP_ERROR, self.error
        if self.finish_reason == "abort":
            return Outcome.ABORTED, f"{self.received_tokens} of {wanted_tokens} tokens"
        if not self.done or self.finish_reason != "length" or self.received_tokens != wanted_tokens:
            said = "ended" if self.done else "broke off"
            return Outcome.TRUNCATED, (
                f"{said} with {self.received_tokens} of {wanted_tokens} tokens, finish_reason {self.finish_reason}"
            )
        return Outcome.SERVED, ""


class LoadGenerator:
    """Sends a list of arrivals to one completions endpoint. `records` grows as requests end."""

    def __init__(self, base_url: str, model: str, clock: Clock, *, seed: int = 0) -> None:
        self.records: list[RequestRecord] = []
        self.sent = 0
        self.started_at_s: float | None = None
        self._url = f"{base_url}/v1/completions"
        self._model = model
        self._clock = clock
        self._random = Random(seed)

    @property
    def outstanding(self) -> int:
        """Requests that were sent and have not ended."""
        return self.sent - len(self.records)

    async def run(
        self, arrivals: Sequence[Arrival], *, on_end: Callable[[RequestRecord], None] | None = None
    ) -> list[RequestRecord]:
        """Send every arrival at its time and return when the last has ended."""
        self.started_at_s = self._clock.now_s()
        connector = aiohttp.TCPConnector(limit=0)  # open loop: never wait for a connection
        session = aiohttp.ClientSession(connector=connector, read_bufsize=LINE_BYTES_MAX)
        async with session, asyncio.TaskGroup() as group:
            for arrival in arrivals:
                await self._clock.sleep(arrival.at_s - self._elapsed_s())
                self.sent += 1
                group.create_task(self._one(session, arrival, on_end))
        return self.records

    async def converse(
        self,
        users: Callable[[], int],
        next_request: Callable[[float], Arrival],
        *,
        on_end: Callable[[RequestRecord], None] | None = None,
    ) -> list[RequestRecord]:
        """Keep one request per user on its way, a new one when an answer has come; return when there are no users.

        A closed loop: where the servers are slow, so are the users.
        """
        self.started_at_s = self._clock.now_s()
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), read_bufsize=LINE_BYTES_MAX)
        async with session, asyncio.TaskGroup() as group:
            while (wanted := users()) > 0:
                while self.outstanding < wanted:
                    self.sent += 1
                    group.create_task(self._one(session, next_request(self._elapsed_s()), on_end))
                await self._clock.sleep(USERS_LOOK_S)
        return self.records

    def _elapsed_s(self) -> float:
        return self._clock.now_s() - (self.started_at_s or 0.0)

    async def _one(
        self, session: aiohttp.ClientSession, arrival: Arrival, on_end: Callable[[RequestRecord], None] | None
    ) -> None:
        sent_s = self._elapsed_s()
        stream = CompletionStream()
        outcome, detail = await self._outcome(session, arrival, stream)
        record = RequestRecord(
            scheduled_s=arrival.at_s,
            sent_s=sent_s,
            end_s=self._elapsed_s(),
            outcome=outcome,
            prompt_tokens=arrival.prompt_tokens,
            output_tokens=arrival.output_tokens,
            received_tokens=stream.received_tokens,
            first_token_s=stream.first_token_s,
            detail=detail,
        )
        self.records.append(record)
        if on_end is not None:
            on_end(record)

    async def _outcome(
        self, session: aiohttp.ClientSession, arrival: Arrival, stream: CompletionStream
    ) -> tuple[Outcome, str]:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                async with session.post(self._url, data=self._body(arrival), headers=JSON_HEADERS) as response:
                    if response.status != 200:
                        text = (await response.text())[:ERROR_CHARACTERS_MAX]
                        return Outcome.HTTP_ERROR, f"HTTP {response.status} {text}"
                    async for line in response.content:
                        stream.feed(line, self._elapsed_s())
        except TimeoutError:
            return Outcome.TIMEOUT, f"after {REQUEST_TIMEOUT_S:g} s with {stream.received_tokens} tokens"
        except (aiohttp.ClientError, ValueError) as exc:
            return Outcome.CONNECTION, f"{type(exc).__name__}: {exc}"[:ERROR_CHARACTERS_MAX]
        return stream.verdict(arrival.output_tokens)

    def _body(self, arrival: Arrival) -> bytes:
        """Token ids make lengths exact; a random first id keeps prompts from sharing a prefix."""
        first = self._random.randrange(VOCABULARY)
        ids = [SPECIAL_IDS + (first + step) % VOCABULARY for step in range(max(1, arrival.prompt_tokens))]
        request = {
            "model": self._model,
            "prompt": ids,
            "max_tokens": arrival.output_tokens,
            "min_tokens": arrival.output_tokens,
            "ignore_eos": True,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        return json.dumps(request, separators=(",", ":")).encode()


def lost_by_reason(records: Sequence[RequestRecord]) -> Counter[str]:
    """How many requests were lost, by outcome."""
    return Counter(record.outcome.value for record in records if record.outcome is not Outcome.SERVED)
