"""One replica, iteration by iteration: the reference model of vLLM's V1 continuous batching.

Laws of a step:
1. Requests that run come first, in the order of their admission: each decodes one token or, as only the
   last one can be, continues its chunked prefill. New requests follow, first come first served.
2. No step computes more than `max_num_batched_tokens`, no more than `max_num_seqs` run.
3. Blocks are taken when the tokens that fill them are scheduled. Where none is free, the youngest running
   request is preempted: it loses its blocks, keeps its tokens and waits at the queue's front; a step
   that preempts admits nobody.
4. A request finds cached blocks at its admission, but always computes at least its last token.
5. A token exists at the end of the step that computed the last token before it.

Callers alternate `start_step` and `finish_step`; time moves only by what they pass in.
"""

from collections import deque
from dataclasses import dataclass, field

from .adapters import AdapterLimits, AdapterSeats
from .blocks import BlockName, BlockPool
from .config import EngineConfig, StepTimes
from .errors import RequestTooLongError
from .request import Finished, Request, Step, StepResult, Token


@dataclass(slots=True)
class Counters:
    """What happened since the start, as vLLM counts it."""

    prompt_tokens: int = 0  # of prompts whose prefill ended
    cached_prompt_tokens: int = 0  # part of them that was not computed
    generation_tokens: int = 0
    prefix_queried_tokens: int = 0  # first admissions only, as vLLM's statistics
    prefix_hit_tokens: int = 0
    preemptions: int = 0
    steps: int = 0


@dataclass(slots=True, eq=False)
class _Sequence:
    """A request on its way."""

    request: Request
    tokens: int  # prompt and what is generated
    computed: int = 0  # tokens whose KV is in the blocks
    blocks: list[int] = field(default_factory=list)
    named: int = 0  # leading blocks that are findable
    scheduled_at_s: float | None = None
    first_token_at_s: float | None = None
    last_token_at_s: float = 0.0
    cached_tokens: int = 0
    preemptions: int = 0
    is_gone: bool = False  # aborted while in a step

    def block_name(self, index: int) -> BlockName:
        given = self.request.prefix_block_ids
        return given[index] if index < len(given) else (self.request.id, index)


@dataclass(slots=True)
class _Plan:
    """A step in the making: who computes how many tokens, and the work that is."""

    started_at_s: float
    budget: int
    chunks: list[tuple[_Sequence, int]] = field(default_factory=list)
    prefill_tokens: int = 0
    decode_sequences: int = 0
    kv_tokens: int = 0
    attention_pairs: float = 0.0
    load_s: float = 0.0  # of adapters
    admitted: list[str] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)

    def add(self, seq: _Sequence, count: int) -> None:
        self.chunks.append((seq, count))
        self.budget -= count
        if count == 1 and seq.computed >= seq.request.prompt_tokens:
            self.decode_sequences += 1
            self.kv_tokens += seq.computed + 1
        else:
            self.prefill_tokens += count
            self.attention_pairs += count * (seq.computed + count / 2)


class Engine:
    """Submit requests, then alternate `start_step` and `finish_step`."""

    def __init__(self, config: EngineConfig, times: StepTimes, adapters: AdapterLimits | None = None) -> None:
        self.config = config
        self.times = times
        self._seats = None if adapters is None else AdapterSeats(adapters)
        self.counters = Counters()
        self._pool = BlockPool(config.usable_blocks)
        self._running: list[_Sequence] = []
        self._waiting: deque[_Sequence] = deque()
        self._by_id: dict[str, _Sequence] = {}
        self._plan: _Plan | None = None
        self._step: Step | None = None

    @property
    def running_requests(self) -> int:
        """Requests in the batch."""
        return len(self._running)

    @property
    def waiting_requests(self) -> int:
        """Requests in the queue, preempted ones included."""
        return len(self._waiting)

    @property
    def outstanding_requests(self) -> int:
        """Running and waiting."""
        return len(self._by_id)

    @property
    def kv_usage_ratio(self) -> float:
        """Used blocks ÷ usable blocks."""
        return self._pool.usage_ratio

    @property
    def step(self) -> Step | None:
        """The step under way."""
        return self._step

    @property
    def scheduled_tokens(self) -> dict[str, int]:
        """Tokens that the step under way computes, by request, in the order of the batch."""
        return {seq.request.id: count for seq, count in self._plan.chunks} if self._plan else {}

    def ready_at_s(self) -> float | None:
        """From when on a step could start: the running ones at once, else the first one's arrival."""
        if self._running:
            return float("-inf")
        return self._waiting[0].request.arrived_at_s if self._waiting else None

    def submit(self, request: Request) -> None:
        """Queue a request; ids are unique among those on their way."""
        if request.total_tokens > self.config.max_model_len_tokens:
            raise RequestTooLongError(
                f"request {request.id} has {request.prompt_tokens} + {request.output_tokens} tokens, "
                f"max_model_len is {self.config.max_model_len_tokens}"
            )
        if request.id in self._by_id:
            raise ValueError(f"request {request.id} is on its way already")
        seq = _Sequence(request, tokens=request.prompt_tokens)
        self._by_id[request.id] = seq
        self._waiting.append(seq)

    def abort(self, request_id: str) -> bool:
        """Drop a request at once; False where it is not (or no longer) on its way."""
        seq = self._by_id.pop(request_id, None)
        if seq is None:
            return False
        seq.is_gone = True
        if seq in self._running:
            self._running.remove(seq)
            self._release(seq, self.counters.steps)
        else:
            self._waiting.remove(seq)
        return True

    def start_step(self, now_s: float) -> Step | None:
        """Begin the next iteration; None where nothing has to be computed."""
        if self._plan is not None:
            raise RuntimeError("the step under way must be finished first")
        plan = _Plan(now_s, self.config.max_num_batched_tokens)
        self._schedule_running(plan)
        if not plan.preempted:
            self._admit_waiting(plan)
        if not plan.chunks:
            return None
        self._plan = plan
        self._step = Step(
            started_at_s=now_s,
            duration_s=plan.load_s
            + self.times.duration_s(
                plan.prefill_tokens,
                plan.decode_sequences,
                kv_tokens=plan.kv_tokens,
                attention_pairs=plan.attention_pairs,
            ),
            prefill_tokens=plan.prefill_tokens,
            decode_sequences=plan.decode_sequences,
            kv_tokens=plan.kv_tokens,
            admitted=tuple(plan.admitted),
            preempted=tuple(plan.preempted),
        )
        return self._step

    def finish_step(self) -> StepResult:
        """End the step under way: its tokens exist now."""
        if self._plan is None or self._step is None:
            raise RuntimeError("no step is under way")
        plan, ended_at_s = self._plan, self._step.ends_at_s
        self._plan = self._step = None
        tokens: list[Token] = []
        first: list[_Sequence] = []
        done: list[_Sequence] = []
        for seq, count in plan.chunks:
            if seq.is_gone:
                continue
            seq.computed += count
            if seq.computed < seq.tokens:
                continue  # the prefill goes on
            if seq.first_token_at_s is None:
                first.append(seq)
            tokens.append(_next_token(seq, ended_at_s))
            if seq.tokens == seq.request.total_tokens:
                done.append(seq)
        finished = tuple(self._retire(seq) for seq in done)
        if done:
            self._running = [seq for seq in self._running if seq.request.id in self._by_id]
        self._count(tokens, first)
        return StepResult(
            ended_at_s=ended_at_s,
            tokens=tuple(tokens),
            prefilled=tuple(seq.request.id for seq in first),
            prompt_tokens=sum(seq.request.prompt_tokens for seq in first),
            finished=finished,
        )

    def _schedule_running(self, plan: _Plan) -> None:
        index = 0
        while index < len(self._running) and plan.budget:
            seq = self._running[index]
            count = min(seq.tokens - seq.computed, plan.budget)
            if not self._make_room(seq, seq.computed + count, plan):
                return  # it was the youngest itself
            plan.add(seq, count)
            index += 1

    def _make_room(self, seq: _Sequence, tokens: int, plan: _Plan) -> bool:
        """Give a running request blocks for so many tokens, at the cost of the youngest."""
        missing = -(-tokens // self.config.block_size_tokens) - len(seq.blocks)
        while missing > self._pool.free:
            victim = self._running.pop()
            self._preempt(victim, plan)
            if victim is seq:
                return False
        if missing > 0:
            seq.blocks += self._pool.take(missing)
        self._name_full_blocks(seq, tokens)
        return True

    def _preempt(self, seq: _Sequence, plan: _Plan) -> None:
        self._release(seq, self.counters.steps)
        seq.computed = 0
        seq.preemptions += 1
        self.counters.preemptions += 1
        plan.preempted.append(seq.request.id)
        self._waiting.appendleft(seq)

    def _admit_waiting(self, plan: _Plan) -> None:
        place = 0
        while place < len(self._waiting) and plan.budget and len(self._running) < self.config.max_num_seqs:
            seq = self._waiting[place]
            if self._seats is not None and not self._seats.fits(seq.request.adapter):
                place += 1  # passed over
                continue
            if seq.request.arrived_at_s > plan.started_at_s or not self._admit(seq, plan):
                return
            del self._waiting[place]
            self._running.append(seq)

    def _admit(self, seq: _Sequence, plan: _Plan) -> bool:
        size = self.config.block_size_tokens
        hits = self._cached_blocks(seq)
        known = len(hits) * size
        if not seq.preemptions:
            known = max(known, seq.request.received_tokens)
        count = min(seq.tokens - known, plan.budget)
        reached = known + count
        to_fit = seq.tokens if self.config.reserves_full_prompt else reached
        if -(-to_fit // size) - len(hits) + self._pool.free_among(hits) > self._pool.free:
            return False
        self._pool.share(hits)
        seq.blocks = hits + self._pool.take(-(-reached // size) - len(hits))
        seq.computed, seq.named = known, len(hits)
        if seq.scheduled_at_s is None:
            seq.scheduled_at_s = plan.started_at_s
            seq.cached_tokens = len(hits) * size
            self.counters.prefix_queried_tokens += seq.tokens
            self.counters.prefix_hit_tokens += seq.cached_tokens
        if self._seats is not None:
            plan.load_s += self._seats.take(seq.request.adapter)
        plan.admitted.append(seq.request.id)
        plan.add(seq, count)
        self._name_full_blocks(seq, reached)
        return True

    def _cached_blocks(self, seq: _Sequence) -> list[int]:
        if not self.config.caches_prefixes:
            return []
        # At least the last token is computed: its output is the next token.
        findable = (seq.tokens - 1) // self.config.block_size_tokens
        return self._pool.find(seq.block_name(index) for index in range(findable))

    def _name_full_blocks(self, seq: _Sequence, tokens: int) -> None:
        full = tokens // self.config.block_size_tokens
        if not self.config.caches_prefixes or full <= seq.named:
            return
        for index in range(seq.named, full):
            self._pool.name(seq.blocks[index], seq.block_name(index))
        seq.named = full

    def _release(self, seq: _Sequence, steps: int) -> None:
        """After so many steps."""
        if self._seats is not None:
            self._seats.drop(seq.request.adapter, steps)
        self._pool.release(seq.blocks)
        seq.blocks = []

    def _retire(self, seq: _Sequence) -> Finished:
        self._release(seq, self.counters.steps + 1)
        del self._by_id[seq.request.id]
        if seq.scheduled_at_s is None or seq.first_token_at_s is None:
            raise RuntimeError(f"request {seq.request.id} finished without having run")
        return Finished(
            request=seq.request,
            scheduled_at_s=seq.scheduled_at_s,
            first_token_at_s=seq.first_token_at_s,
            finished_at_s=seq.last_token_at_s,
            cached_tokens=seq.cached_tokens,
            preemptions=seq.preemptions,
        )

    def _count(self, tokens: list[Token], first: list[_Sequence]) -> None:
        counters = self.counters
        counters.steps += 1
        counters.generation_tokens += len(tokens)
        for seq in first:
            counters.prompt_tokens += seq.request.prompt_tokens
            counters.cached_prompt_tokens += seq.cached_tokens


def _next_token(seq: _Sequence, at_s: float) -> Token:
    seq.tokens += 1
    if seq.first_token_at_s is None:
        seq.first_token_at_s = at_s
        gap_s = None
    else:
        gap_s = at_s - seq.last_token_at_s
    seq.last_token_at_s = at_s
    return Token(seq.request.id, seq.tokens - seq.request.prompt_tokens, gap_s)
