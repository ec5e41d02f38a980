"""HTTP in front of a live engine: the paths that autoscalers, gateways and clients of vLLM use."""

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from metrics.clock import Clock
from simulations.replica import Request

from .errors import RefusedError
from .http_metrics import NO_ROUTE, UNCOUNTED_PATHS, HttpMetrics
from .live_engine import Delivery, Job, LiveEngine
from .options import ServerOptions
from .page import Page, PageFaults
from .protocol import Answer, Call, parse_call

BODY_BYTES_MAX = 16 * 1024 * 1024  # a million token ids as JSON; larger is no prompt
VERSION = "0.32.0"
LOAD_FORMAT_HEADER = "endpoint-load-metrics-format"
LOAD_HEADER = "endpoint-load-metrics"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Routes:
    """The handlers of one server."""

    def __init__(
        self, options: ServerOptions, engine: LiveEngine, page: Page, http_metrics: HttpMetrics, clock: Clock
    ) -> None:
        self.is_draining = False
        self.faults = PageFaults()
        self.answering = 0  # completion requests whose answer is not written yet
        self._all_answered = asyncio.Event()
        self._all_answered.set()
        self._options = options
        self._engine = engine
        self._page = page
        self._http_metrics = http_metrics
        self._clock = clock

    def app(self) -> web.Application:
        """An application that answers as this server."""
        app = web.Application(middlewares=[self._measured], client_max_size=BODY_BYTES_MAX)
        app.router.add_post("/v1/completions", self._completions)
        app.router.add_post("/v1/chat/completions", self._chat_completions)
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/load", self._load)
        app.router.add_get("/version", self._version)
        for path in ("/health", "/ping"):
            app.router.add_get(path, self._health)
        return app

    async def wait_all_answered(self) -> None:
        """Return when every completion request that came in has its whole answer."""
        await self._all_answered.wait()

    @web.middleware
    async def _measured(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        started_at_s = self._clock.now_s()
        response = await self._answered(request, handler)
        if request.path not in UNCOUNTED_PATHS:
            resource = request.match_info.route.resource
            name = resource.canonical if resource is not None else NO_ROUTE
            duration_s = self._clock.now_s() - started_at_s
            self._http_metrics.answered(name, request.method, response.status, duration_s=duration_s)
            sent_bytes = int(response.headers.get("Content-Length", 0))
            self._http_metrics.transferred(name, received_bytes=request.content_length or 0, sent_bytes=sent_bytes)
        return response

    async def _answered(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as exc:
            return web.json_response(exc.body(), status=exc.status)
        except web.HTTPException as exc:  # no such path or method, in FastAPI's form
            return web.json_response({"detail": exc.reason}, status=exc.status)

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        return await self._complete(request, is_chat=False)

    async def _chat_completions(self, request: web.Request) -> web.StreamResponse:
        return await self._complete(request, is_chat=True)

    async def _complete(self, request: web.Request, *, is_chat: bool) -> web.StreamResponse:
        arrived_at_s = self._clock.now_s()
        self._begin_answer()
        try:
            call = parse_call(await _json(request), self._options, is_chat=is_chat)
            answer_id = uuid.uuid4().hex
            answer = Answer(call, answer_id=answer_id, created_s=int(arrived_at_s))
            deliveries: asyncio.Queue[Delivery] = asyncio.Queue()
            write = self._stream if call.streams else self._whole
            if self.is_draining:
                _come_to_nothing(call, deliveries)
                return await write(request, call, answer, deliveries)
            self._engine.check_limits(len(call.prompts) * call.copies)
            jobs = self._jobs(call, answer_id, deliveries, arrived_at_s)
            try:
                for job in jobs:
                    self._engine.submit(job)
                return await write(request, call, answer, deliveries)
            finally:
                for job in jobs:
                    self._engine.abort(job.request.id)  # the client left; where all went well this does nothing
        finally:
            self._end_answer()

    def _jobs(
        self, call: Call, answer_id: str, deliveries: asyncio.Queue[Delivery], arrived_at_s: float
    ) -> tuple[Job, ...]:
        prompts = [prompt for prompt in call.prompts for _ in range(call.copies)]
        return tuple(
            Job(
                request=Request(
                    id=f"{answer_id}-{choice}",
                    prompt_tokens=prompt.tokens,
                    output_tokens=call.output_tokens,
                    prefix_block_ids=prompt.block_ids,
                    arrived_at_s=arrived_at_s,
                ),
                choice=choice,
                finish_reason=call.finish_reason,
                max_tokens=call.max_tokens,
                copies=call.copies,
                interval_tokens=self._options.stream_interval_tokens if call.streams else 0,
                deliveries=deliveries,
            )
            for choice, prompt in enumerate(prompts)
        )

    async def _stream(
        self, request: web.Request, call: Call, answer: Answer, deliveries: asyncio.Queue[Delivery]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        with suppress(ConnectionResetError):  # the client left: nobody reads the rest
            await response.prepare(request)
            await self._write_events(response, call, answer, deliveries)
        return response

    async def _write_events(
        self, response: web.StreamResponse, call: Call, answer: Answer, deliveries: asyncio.Queue[Delivery]
    ) -> None:
        open_choices = len(call.prompts) * call.copies
        while open_choices:
            delivery = await deliveries.get()
            if delivery.tokens or answer.has_begun(delivery.choice):  # no event tells of a choice without a token
                await response.write(answer.chunk(delivery.choice, delivery.tokens, delivery.finish_reason))
            open_choices -= delivery.finish_reason is not None
        if call.includes_usage:
            await response.write(answer.usage_chunk())
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()

    async def _whole(
        self, request: web.Request, call: Call, answer: Answer, deliveries: asyncio.Queue[Delivery]
    ) -> web.StreamResponse:
        ends: dict[int, tuple[int, str]] = {}
        while len(ends) < len(call.prompts) * call.copies:
            delivery = await deliveries.get()
            ends[delivery.choice] = (delivery.tokens, delivery.finish_reason or "")
        headers = {}
        if request.headers.get(LOAD_FORMAT_HEADER, "").lower() == "json":
            headers[LOAD_HEADER] = "JSON " + json.dumps({"named_metrics": self._engine.load})
        return web.json_response(answer.whole([ends[choice] for choice in sorted(ends)]), headers=headers)

    async def _models(self, request: web.Request) -> web.StreamResponse:
        del request
        model = {
            "id": self._options.model_name,
            "object": "model",
            "created": int(self._clock.now_s()),
            "owned_by": "vllm",
            "root": self._options.model_name,
            "parent": None,
            "max_model_len": self._options.engine.max_model_len_tokens,
        }
        return web.json_response({"object": "list", "data": [model]})

    async def _metrics(self, request: web.Request) -> web.StreamResponse:
        del request
        if self.faults.hangs:
            await asyncio.Event().wait()
        text = "" if self.faults.is_empty else self._page.render() + self._http_metrics.render()
        return web.Response(text=text, content_type="text/plain", charset="utf-8")

    async def _load(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response({"server_load": self.answering if self._options.tracks_load else 0})

    async def _version(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.json_response({"version": VERSION})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.Response()

    def _begin_answer(self) -> None:
        self.answering += 1
        self._all_answered.clear()

    def _end_answer(self) -> None:
        self.answering -= 1
        if not self.answering:
            self._all_answered.set()


def _come_to_nothing(call: Call, deliveries: asyncio.Queue[Delivery]) -> None:
    """What a 0.32 server makes of a request after SIGTERM, while it drains: seen on a real one.

    Text fails in the tokenizer, whose threads are gone; token ids get an answer of 200 without a token.
    """
    if not call.is_tokens:
        raise RefusedError(500, "InternalServerError", "cannot schedule new futures after shutdown")
    for choice in range(len(call.prompts) * call.copies):
        deliveries.put_nowait(Delivery(choice, 0, "abort"))


async def _json(request: web.Request) -> object:
    try:
        return await request.json()
    except ValueError as exc:
        raise RefusedError.bad(f"The request body is no JSON: {exc}") from exc
