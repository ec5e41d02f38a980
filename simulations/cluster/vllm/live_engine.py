"""The pure engine in real time: jobs come in, tokens go out when their step has ended on the clock.

One task drives it. It sleeps until the step under way ends, and where it wakes late it runs the steps it
missed without sleeping: the engine's own time stays exact, and an idle engine costs nothing.
"""

import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from metrics.clock import Clock
from simulations.replica import Engine, Finished, Request, StepResult

from .errors import RefusedError
from .options import ServerOptions
from .stats import EngineStats

# Steps run back to back before the event loop gets a turn when the clock is ahead: about a millisecond.
LATE_STEPS = 16


class Delivery(NamedTuple):
    """Tokens for one choice of an answer; with a reason, the last ones."""

    choice: int
    tokens: int
    finish_reason: str | None


@dataclass(slots=True, kw_only=True)
class Job:
    """One request on its way, and where its tokens go."""

    request: Request
    choice: int
    finish_reason: str
    max_tokens: int
    copies: int
    interval_tokens: int  # 0: all at the end
    deliveries: asyncio.Queue[Delivery]  # never holds more than the answer's tokens
    sent_tokens: int = 0
    has_first_token: bool = False


class LiveEngine:
    """Jobs, their limits and their statistics around one engine."""

    def __init__(self, options: ServerOptions, clock: Clock) -> None:
        self.stats = EngineStats(options.engine)
        self._options = options
        self._clock = clock
        self._engine = Engine(options.engine, options.real_step_times)
        self._jobs: dict[str, Job] = {}
        self._work = asyncio.Event()
        self._free_at_s = float("-inf")  # the last step's end

    @property
    def load(self) -> dict[str, float]:
        """What the passive load header says."""
        scalars = self.stats.scalars
        return {
            "num_requests_running": scalars["num_requests_running"][0],
            "num_requests_waiting": scalars["num_requests_waiting"][0],
            "kv_cache_usage_perc": scalars["kv_cache_usage_perc"][0],
        }

    @property
    def jobs(self) -> int:
        """Requests on their way."""
        return len(self._jobs)

    def check_limits(self, jobs: int) -> None:
        """Refuse with 503 what a queue limit forbids. `max_num_queued_reqs` counts running ones too."""
        limit = self._options.max_num_queued_reqs
        if limit is not None and len(self._jobs) + jobs > limit:
            self._reject("max_num_queued_reqs", limit)
        limit = self._options.max_num_queued_tokens
        if limit is not None and self._prefill_tokens() >= limit:
            self._reject("max_num_queued_tokens", limit)

    def submit(self, job: Job) -> None:
        """Queue a job; its tokens come to `job.deliveries`."""
        self._engine.submit(job.request)
        self._jobs[job.request.id] = job
        self._work.set()

    def abort(self, request_id: str) -> None:
        """Drop a job whose client left, wherever it is; one that has ended is none. vLLM does not count it."""
        job = self._jobs.pop(request_id, None)
        if job is None:
            return
        self._engine.abort(request_id)
        self.stats.refresh(self._engine)
        job.deliveries.put_nowait(Delivery(job.choice, 0, "abort"))

    def abort_all(self) -> None:
        """Drop every job: each ends with the reason `abort`."""
        for request_id in list(self._jobs):
            self.abort(request_id)
            self.stats.ended("abort")

    async def run(self) -> None:
        """Drive the engine until cancelled."""
        late_steps = 0
        while True:
            ready_at_s = self._engine.ready_at_s()
            if ready_at_s is None:
                self._work.clear()
                await self._work.wait()
                continue
            step = self._engine.start_step(max(ready_at_s, self._free_at_s))
            if step is None:
                raise RuntimeError(f"an engine that was ready at {ready_at_s} had nothing to compute")
            left_s = step.ends_at_s - self._clock.now_s()
            late_steps = 0 if left_s > 0 else late_steps + 1
            if left_s > 0 or late_steps % LATE_STEPS == 0:
                await self._clock.sleep(left_s)
            self._end_step()

    def _end_step(self) -> None:
        result = self._engine.finish_step()
        self._free_at_s = result.ended_at_s
        self.stats.step_ended(result)
        self._first_tokens(result)
        finished = {done.request.id: done for done in result.finished}
        for token in result.tokens:
            job = self._jobs[token.request_id]
            done = finished.get(token.request_id)
            if done is not None:
                self._finish(job, done)
            elif job.interval_tokens and (not job.sent_tokens or token.number - job.sent_tokens >= job.interval_tokens):
                job.deliveries.put_nowait(Delivery(job.choice, token.number - job.sent_tokens, None))
                job.sent_tokens = token.number
        self.stats.refresh(self._engine)

    def _first_tokens(self, result: StepResult) -> None:
        for request_id in result.prefilled:
            job = self._jobs[request_id]
            job.has_first_token = True
            self.stats.first_token(result.ended_at_s - job.request.arrived_at_s)

    def _finish(self, job: Job, done: Finished) -> None:
        del self._jobs[done.request.id]
        self.stats.finished(done, reason=job.finish_reason, max_tokens=job.max_tokens, copies=job.copies)
        left_tokens = done.request.output_tokens - job.sent_tokens
        job.deliveries.put_nowait(Delivery(job.choice, left_tokens, job.finish_reason))

    def _prefill_tokens(self) -> int:
        return sum(job.request.prompt_tokens for job in self._jobs.values() if not job.has_first_token)

    def _reject(self, limit: str, value: int) -> None:
        self.stats.rejected(limit)
        raise RefusedError(503, "ServiceUnavailableError", f"The server is overloaded: {limit} is {value}.")
