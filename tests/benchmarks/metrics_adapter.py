"""A metrics adapter on loopback: the custom and external metrics APIs behind a real aggregator, and what was asked.

Each namespace is one course of numbers. At every question of the HPA controller it notes the Deployment's number, its
pods and what it answered.
"""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from peers import API_SERVICES
from real_plane import until

from autoscaler.timestamps import rfc3339
from metrics.clock import WallClock
from simulations.cluster.api import DEPLOYMENTS, PODS, SERVICES
from simulations.cluster.http_api import HttpApi
from simulations.imports.recorded import Sync

TARGET = "server"
CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
VERSIONS = {CUSTOM: "v1beta2", EXTERNAL: "v1beta1"}
# Both questions of one sync come within this; syncs are six seconds apart.
SAME_SYNC_S = 2.0
MILLI = 1000


@dataclass(slots=True, kw_only=True)
class Course:
    """What a service's metrics say, step by step; None: the API has nothing. `silent`: pods without a metric."""

    totals: Sequence[float | None] = ()
    per_pod: Sequence[float] = ()
    silent: int = 0
    syncs: list[Sync] = field(default_factory=list)


@dataclass(slots=True)
class Adapter:
    """Both APIs."""

    api: HttpApi
    clock: WallClock
    courses: dict[str, Course]
    step_s: float
    began_s: float = 0.0

    def app(self) -> web.Application:
        """Discovery and the two questions that the HPA asks."""
        app = web.Application()
        for group, version in VERSIONS.items():
            app.router.add_get(f"/apis/{group}/{version}", self._resources)
        custom, external = (f"/apis/{group}/{version}/namespaces/{{space}}" for group, version in VERSIONS.items())
        app.router.add_get(f"{custom}/pods/*/{{metric}}", self._pods)
        app.router.add_get(f"{external}/{{metric}}", self._total)
        return app

    async def serve(self, certificates: Path, port: int) -> web.AppRunner:
        """Until the runner is cleaned up."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
        runner = web.AppRunner(self.app())
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        return runner

    async def _resources(self, request: web.Request) -> web.Response:
        group_version = request.path.removeprefix("/apis/")
        return web.json_response(
            {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": []}
        )

    async def _total(self, request: web.Request) -> web.Response:
        space, metric = request.match_info["space"], request.match_info["metric"]
        value = self._at(self.courses[space].totals)
        sync = await self._sync(space)
        sync["total"] = value
        self._answered(sync)
        if value is None:
            return web.json_response({"kind": "Status", "status": "Failure", "code": 404}, status=404)
        item = {"metricName": metric, "metricLabels": {}, "timestamp": _stamp(self.clock), "value": _quantity(value)}
        return _listed("ExternalMetricValueList", EXTERNAL, [item])

    async def _pods(self, request: web.Request) -> web.Response:
        space, metric = request.match_info["space"], request.match_info["metric"]
        course, sync = self.courses[space], await self._sync(space)
        running = sorted(pod["metadata"]["name"] for pod in await self.api.list(PODS, space) if _is_running(pod))
        value = self._at(course.per_pod) or 0.0
        told = running[: max(0, len(running) - course.silent)]
        sync["running"] = len(running)
        sync["per_pod"] = [value if name in told else None for name in running]
        items = [
            {
                "describedObject": {"kind": "Pod", "namespace": space, "name": name, "apiVersion": "v1"},
                "metric": {"name": metric},
                "timestamp": _stamp(self.clock),
                "value": _quantity(value),
            }
            for name in told
        ]
        self._answered(sync)
        return _listed("MetricValueList", CUSTOM, items)

    async def _sync(self, space: str) -> Sync:
        """The sync that this question belongs to."""
        now_s, syncs = self.clock.now_s(), self.courses[space].syncs
        if syncs and now_s - self.began_s - syncs[-1]["at_s"] < SAME_SYNC_S:
            return syncs[-1]
        deployment = await self.api.get(DEPLOYMENTS, space, TARGET)
        pods = [pod for pod in await self.api.list(PODS, space) if "deletionTimestamp" not in pod["metadata"]]
        running = sum(_is_running(pod) for pod in pods)
        sync: Sync = {
            "at_s": round(now_s - self.began_s, 3),
            "replicas": deployment["spec"]["replicas"],
            "running": running,
            "pending": len(pods) - running,
            "per_pod": None,
            "total": None,
        }
        syncs.append(sync)
        return sync

    def _answered(self, sync: Sync) -> None:
        """The controller decides once it has the answer."""
        sync["at_s"] = round(self.clock.now_s() - self.began_s, 3)

    def _at(self, values: Sequence[float | None]) -> float | None:
        step = int((self.clock.now_s() - self.began_s) / self.step_s)
        return values[min(max(step, 0), len(values) - 1)]


def _is_running(pod: dict) -> bool:
    return pod.get("status", {}).get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def _listed(kind: str, group: str, items: list[dict]) -> web.Response:
    return web.json_response({"kind": kind, "apiVersion": f"{group}/{VERSIONS[group]}", "metadata": {}, "items": items})


def _quantity(value: float) -> str:
    return f"{round(value * MILLI)}m"


def _stamp(clock: WallClock) -> str:
    return rfc3339(clock.now_s())


async def register(api: HttpApi, namespace: str, port: int) -> None:
    """Both APIs at the aggregator; it finds the adapter by a name, since endpoints may not be on loopback."""
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    await api.create(SERVICES, {"metadata": {"name": "adapter", "namespace": namespace}, "spec": service})
    for group, version in VERSIONS.items():
        spec = {
            "service": {"name": "adapter", "namespace": namespace, "port": port},
            "group": group,
            "version": version,
            "insecureSkipTLSVerify": True,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
        }
        await api.create(API_SERVICES, {"metadata": {"name": f"{version}.{group}"}, "spec": spec})

    async def are_available() -> bool:
        names = [f"{version}.{group}" for group, version in VERSIONS.items()]
        found = [await api.get(API_SERVICES, "", name) for name in names]
        return all(_is_available(service) for service in found)

    await until(are_available)


def _is_available(service: dict) -> bool:
    conditions = service.get("status", {}).get("conditions") or ()
    return any(one["type"] == "Available" and one["status"] == "True" for one in conditions)
