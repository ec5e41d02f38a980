"""What goes into a replica and what comes out: requests, steps, tokens, finished requests."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request with exact lengths.

    `prefix_block_ids` names the leading full blocks of its tokens: equal names are equal content, so
    requests that share names share KV blocks. Names past the prompt name blocks of the answer (the
    next turn of a conversation finds them); blocks without a given name are this request's own.
    """

    id: str
    prompt_tokens: int
    output_tokens: int
    prefix_block_ids: tuple[Hashable, ...] = ()
    received_tokens: int = 0  # of the prompt, whose KV comes with it from where it was computed; gone once preempted
    arrived_at_s: float = 0.0
    adapter: int = 0  # from 1 on; 0: the model itself

    def __post_init__(self) -> None:
        if self.prompt_tokens < 1 or self.output_tokens < 1:
            raise ValueError(
                f"request {self.id}: prompt_tokens is {self.prompt_tokens} and "
                f"output_tokens is {self.output_tokens}, both must be at least 1"
            )
        if not 0 <= self.received_tokens < self.prompt_tokens:
            raise ValueError(
                f"request {self.id}: received_tokens is {self.received_tokens}, "
                f"must be at least 0 and less than prompt_tokens ({self.prompt_tokens})"
            )

    @property
    def total_tokens(self) -> int:
        """Prompt and answer."""
        return self.prompt_tokens + self.output_tokens


class Token(NamedTuple):
    """One generated token: its number in its answer (from 1) and the time since the one before."""

    request_id: str
    number: int
    gap_s: float | None  # None for the first


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One iteration that began: what it computes and how long that takes."""

    started_at_s: float
    duration_s: float
    prefill_tokens: int
    decode_sequences: int
    kv_tokens: int  # read by the decoding sequences
    admitted: tuple[str, ...] = ()
    preempted: tuple[str, ...] = ()

    @property
    def ends_at_s(self) -> float:
        """When its tokens exist."""
        return self.started_at_s + self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """A request that has all of its tokens, with the times of its way."""

    request: Request
    scheduled_at_s: float  # first time in a batch
    first_token_at_s: float
    finished_at_s: float
    cached_tokens: int  # prompt tokens not computed at the first admission
    preemptions: int

    @property
    def queue_s(self) -> float:
        """Waited before the first batch."""
        return self.scheduled_at_s - self.request.arrived_at_s

    @property
    def ttft_s(self) -> float:
        """Arrival to first token."""
        return self.first_token_at_s - self.request.arrived_at_s

    @property
    def e2e_s(self) -> float:
        """Arrival to last token."""
        return self.finished_at_s - self.request.arrived_at_s

    @property
    def tpot_s(self) -> float:
        """Mean time per token after the first; 0 where there is none."""
        later_tokens = self.request.output_tokens - 1
        return (self.finished_at_s - self.first_token_at_s) / later_tokens if later_tokens else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What an iteration brought."""

    ended_at_s: float
    tokens: tuple[Token, ...]
    prefilled: tuple[str, ...]  # requests whose first token this is
    prompt_tokens: int  # of those
    finished: tuple[Finished, ...]
