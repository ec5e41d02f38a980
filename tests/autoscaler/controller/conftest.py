"""A whole controller on a whole stand-in cluster, in one process and in virtual time."""

import asyncio
import math
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.crds import all_crds
from autoscaler.errors import ApiFailure, Unreachable, api_failure
from autoscaler.kube import resources
from autoscaler.kube.resources import STREAM_OPEN, Object
from autoscaler.wiring import Connections, Options, Program
from metrics.errors import ScrapeError, ScrapeFailure
from metrics.sample import EngineSample, Histogram
from metrics.target import ScrapeTarget
from metrics.telemetry import TelemetryConfig, set_up
from simulations.cluster.api import (
    CRDS,
    DEPLOYMENTS,
    EVENTS,
    PODS,
    SCALED_SERVICES,
    SCALING_POLICIES,
    ApiError,
    Resource,
)
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.enrolled import ENROLLED, vllm_deployment
from simulations.cluster.workloads import FixedStartup, InstantRuntime, NodeSpec, Workloads
from simulations.cluster.workloads.settle import LoopClock

STARTED_AT_S = 1_750_000_000.0
CAPACITY_REQUESTS = 8.0  # what one engine runs at once
_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<subresource>[^/]+))?$"
)
_KINDS = {r.plural: r for r in vars(resources).values() if isinstance(r, resources.Resource)}


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(__file__.rsplit("/", 1)[0]) and "realtime" not in item.path.stem:
            item.add_marker(pytest.mark.looptime)


class LocalKube:
    """The controller's client on the stand-in's own objects: no network, so that it works in virtual time.

    `down` makes every request fail and ends every watch, as an API server that is away does.
    """

    def __init__(self, api: LocalApi) -> None:
        self._api = api
        self._down = False
        self._came_or_went = asyncio.Event()
        self.refuse: Callable[[str, str], ApiFailure | None] = lambda _verb, _path: None
        self.takes_s: Callable[[str, str], float] = lambda _verb, _path: 0.0
        self.is_allowed: Callable[[Mapping[str, str]], bool] = lambda _attributes: False  # beyond the role
        self.hides: Callable[[str], bool] = lambda _path: False  # kinds of which nothing is told: a watch that lags
        self.requests: list[tuple[str, str]] = []
        self.ahead_s = 0.0  # the server's clock, of the controller's

    @property
    def down(self) -> bool:
        return self._down

    @down.setter
    def down(self, value: bool) -> None:
        self._down = value
        self.break_watches()

    def break_watches(self) -> None:
        """End every watch; whether it comes back is up to `down` and `refuse`."""
        self._came_or_went.set()
        self._came_or_went = asyncio.Event()

    def server_ahead_s(self) -> float:
        return self.ahead_s

    async def get(self, path: str) -> Object:
        resource, namespace, name, _ = self._enter("get", path)
        return await self._answer(self._api.get(resource, namespace, name))

    async def create(self, path: str, body: Object) -> Object:
        if path.endswith("/selfsubjectaccessreviews"):
            return body | {"status": {"allowed": self.is_allowed(body["spec"]["resourceAttributes"])}}
        resource, namespace, _, _ = self._enter("create", path)
        body = body | {"metadata": {"namespace": namespace} | body["metadata"]}
        return await self._answer(self._api.create(resource, body))

    async def patch(self, path: str, body: Object) -> Object:
        resource, namespace, name, subresource = self._enter("patch", path)
        await asyncio.sleep(self.takes_s("patch", path))
        return await self._answer(self._api.patch(resource, namespace, name, body, subresource))

    async def delete(self, path: str) -> None:
        resource, namespace, name, _ = self._enter("delete", path)
        await self._answer(self._api.delete(resource, namespace, name))

    async def pages(self, path: str, *, labels: str | None = None) -> AsyncIterator[tuple[list[Object], str]]:
        resource, namespace, _, _ = self._enter("list", path)
        if self.hides(path):
            yield [], "0"
            return
        yield await self._answer(self._api.list(resource, namespace or None)), "0"

    async def watch(self, path: str, *, resource_version: str, timeout_s: float) -> AsyncIterator[Object]:
        resource, namespace, _, _ = self._enter("watch", path)
        events = self._api.watch([resource])
        yield {"type": STREAM_OPEN, "object": {}}
        while True:
            event = await self._next(events)
            if self.hides(path):
                continue
            if not namespace or event.object["metadata"].get("namespace") == namespace:
                yield {"type": event.type, "object": event.object}

    async def _next(self, events: AsyncIterator[Any]) -> Any:
        waiting = asyncio.ensure_future(anext(events))
        ended = asyncio.ensure_future(self._came_or_went.wait())
        try:
            await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                raise Unreachable(0, "WatchBroken", "the connection broke")
            return await waiting
        finally:
            ended.cancel()
            waiting.cancel()

    def _enter(self, verb: str, path: str) -> tuple[Resource, str, str, str]:
        self.requests.append((verb, path))
        if self._down:
            raise Unreachable(0, "Unreachable", "the API server is away")
        if (failure := self.refuse(verb, path)) is not None:
            raise failure
        match = _PATH.match(path)
        assert match, path
        ours = _KINDS[match["plural"]]
        resource = Resource(ours.group, ours.version, ours.plural, ours.kind, ours.namespaced)
        return resource, match["namespace"] or "", match["name"] or "", match["subresource"] or ""

    async def _answer(self, call: Any) -> Any:
        try:
            return await call
        except ApiError as error:
            raise api_failure(error.code, error.reason, error.message, details=error.details) from error
        except KeyError as error:  # a kind that is not installed
            raise api_failure(404, "NotFound", str(error)) from error


class JumpingClock(LoopClock):
    """The loop's time, that a test may make jump."""

    offset_s = 0.0

    def now_s(self) -> float:
        return super().now_s() + self.offset_s

    def jump(self, by_s: float) -> None:
        self.offset_s += by_s


class Engines:
    """vLLM servers that share a number of requests: each runs up to eight, the rest waits."""

    def __init__(self, api: LocalApi, clock: LoopClock) -> None:
        self._api = api
        self._clock = clock
        self._counted_at_s, self._count = 0.0, 0
        self._totals: dict[str, tuple[float, float]] = {}  # by pod uid: at, tokens
        self.requests: Callable[[float], float] = lambda _now_s: 0.0
        self.distort: Callable[[str, EngineSample], EngineSample] = lambda _uid, sample: sample
        self.failure: ScrapeFailure | None = None

    async def scrape(self, target: ScrapeTarget) -> EngineSample:
        now_s = self._clock.now_s()
        if self.failure is not None:
            await self._clock.sleep(2.0 if self.failure is ScrapeFailure.TIMEOUT else 0.0)
            raise ScrapeError(target.key, self.failure, "as the story goes")
        share = self.requests(now_s) / max(1, await self._serving(now_s))
        running = min(share, CAPACITY_REQUESTS)
        at_s, tokens = self._totals.get(target.key, (now_s, 0.0))
        tokens += running * 50.0 * (now_s - at_s)
        self._totals[target.key] = (now_s, tokens)
        sample = EngineSample(
            observed_at_s=now_s,
            running_requests=math.floor(running),
            waiting_requests=math.floor(share - running),
            kv_cache_usage_ratio=0.9 * running / CAPACITY_REQUESTS,
            kv_cache_capacity_tokens=100_000.0,
            prompt_tokens_total=tokens,
            generation_tokens_total=tokens,
            iterations_total=tokens,
            ttft_s=Histogram(bounds=(1.0, math.inf), counts=(tokens / 100, tokens / 100), sum=tokens / 1000),
        )
        return self.distort(target.key, sample)

    async def _serving(self, now_s: float) -> int:
        """Ready pods, looked up once a second."""
        if abs(now_s - self._counted_at_s) >= 1.0:
            self._counted_at_s = now_s
            self._count = sum(is_ready(pod) for pod in await self._api.list(PODS))
        return self._count


class Town:
    """The cluster, its engines, and controllers as one likes."""

    def __init__(self) -> None:
        self.clock = JumpingClock(STARTED_AT_S)
        self.api = LocalApi.on_new_store(self.clock, seed=1)
        self.engines = Engines(self.api, self.clock)
        nodes = [NodeSpec(name=f"gpu-{i}", gpus=8, gpu_product="H100") for i in range(3)]
        self.workloads = Workloads(self.api, nodes, InstantRuntime(), self.clock, FixedStartup(load_s=20.0))

    async def install(self) -> None:
        for crd in all_crds():
            await self.api.create(CRDS, crd)

    def client(self) -> LocalKube:
        return LocalKube(self.api)

    @asynccontextmanager
    async def cluster(self) -> AsyncIterator[None]:
        """24 GPUs, the CRDs, and policy `gold`: direct, 1 to 16 replicas, no forecast, 60 s down."""
        await self.install()
        await self.policy()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.workloads.run())
            yield
            task.cancel()

    @asynccontextmanager
    async def controller(
        self, identity: str = "one", client: LocalKube | None = None, **options: Any
    ) -> AsyncIterator[LocalKube]:
        """A controller that runs within the block and ends in good order."""
        client = client or self.client()
        stop = asyncio.Event()
        program = self.program(identity, client, **options)
        async with asyncio.TaskGroup() as group:
            group.create_task(program.run(stop))
            yield client
            stop.set()

    def program(self, identity: str, client: LocalKube, **options: Any) -> Program:
        history, upstream, list_model = (options.pop(name, None) for name in ("history", "upstream", "list_model"))
        clock = options.pop("clock", self.clock)
        chosen = Options(identity=identity, home_namespace="default", **options)
        connections = Connections(
            client=client,
            lease_client=client,
            scraper=self.engines,
            history=history,
            upstream=upstream,
            list_model=list_model,
        )
        self.telemetry = set_up(TelemetryConfig())
        return Program(chosen, clock, self.telemetry, connections)

    def problems(self) -> set[str]:
        """What the page of the newest controller says is wrong with services."""
        lines = self.telemetry.exposition().decode().splitlines()
        return {line for line in lines if line.startswith("warmtide_service_problem{")}

    async def deploy(
        self,
        replicas: int = 2,
        name: str = "llm",
        annotations: Mapping[str, str] = ENROLLED,
        model: str = "",
    ) -> None:
        obj = vllm_deployment(name, replicas, annotations=annotations)
        if model:
            obj["spec"]["template"]["spec"]["containers"][0]["args"] = ["serve", model]
        await self.api.create(DEPLOYMENTS, obj)

    async def policy(self, name: str = "gold", **spec: Any) -> None:
        defaults = {
            "mode": "direct",
            "replicas": {"min": 1, "max": 16},
            "forecast": {"enabled": False},
            "metrics": {"periodSeconds": 4},
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
        }
        whole = defaults | spec
        known = {p["metadata"]["name"] for p in await self.api.list(SCALING_POLICIES, "default")}
        if name in known:
            await self.api.patch(SCALING_POLICIES, "default", name, {"spec": whole})
            return
        body = {
            "apiVersion": SCALING_POLICIES.api_version,
            "kind": SCALING_POLICIES.kind,
            "metadata": {"name": name},
            "spec": whole,
        }
        await self.api.create(SCALING_POLICIES, body)

    async def replicas(self, name: str = "llm") -> int:
        return int((await self.api.get(DEPLOYMENTS, "default", name))["spec"]["replicas"])

    async def status(self, name: str = "llm") -> Mapping[str, Any]:
        return dict((await self.api.get(SCALED_SERVICES, "default", name)).get("status") or {})

    async def condition(self, kind: str, name: str = "llm") -> Mapping[str, Any]:
        return next(c for c in (await self.status(name))["conditions"] if c["type"] == kind)

    async def events(self) -> list[tuple[str, str]]:
        found = await self.api.list(EVENTS, "default")
        return [(e["reason"], e["message"]) for e in found if e["source"].get("component") == "warmtide"]

    async def annotate(self, name: str, value: str | None) -> None:
        await self.api.patch(
            DEPLOYMENTS, "default", name, {"metadata": {"annotations": {"warmtide.dev/policy": value}}}
        )

    async def loosen(self, crd: str) -> None:
        """Take the schema out of a CRD, as if it were an older or a hand-made one."""
        found = await self.api.get(CRDS, "", crd)
        anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
        for version in found["spec"]["versions"]:
            version["schema"] = {"openAPIV3Schema": anything}
        await self.api.update(CRDS, found)

    async def scaled_services(self) -> list[Object]:
        return await self.api.list(SCALED_SERVICES, "default")

    async def after(self, duration_s: float) -> None:
        await self.clock.sleep(duration_s)


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


@pytest.fixture
async def town() -> Town:
    """Nothing runs yet: `async with town.cluster(), town.controller():`."""
    return Town()


@pytest.fixture
def without() -> Callable[..., EngineSample]:
    """A sample with some series gone."""
    return lambda sample, *names: replace(sample, **dict.fromkeys(names))
