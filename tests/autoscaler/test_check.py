"""`warmtide check` against an API server: what it finds, and what it says to do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from autoscaler.check import main
from autoscaler.check_cluster import LEASE_STALE_S
from autoscaler.check_services import STATUS_FRESH_S
from autoscaler.crds import all_crds
from autoscaler.kube.client import KubeClient
from autoscaler.permissions import pod_deletion_cost_rbac, rbac
from autoscaler.timestamps import rfc3339
from autoscaler.wiring import LEASE_NAME
from cacheops.crds import all_crds as cache_crds
from metrics.clock import WallClock
from simulations.cluster.apiserver import ApiServer, User

Object = dict[str, Any]

OURS = {"apiVersion": "warmtide.dev/v1alpha1"}
STRANGER = "stranger-token"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
TEAM = "namespaces/team-a"
ACCOUNT = "warmtide/warmtide-controller"


class Cluster:
    """A stand-in API server, and short ways to fill it."""

    def __init__(self, server: ApiServer, client: KubeClient, folder: Path) -> None:
        self.server = server
        self.client = client
        self.folder = folder

    async def create(self, path: str, *objects: Object) -> None:
        for obj in objects:
            await self.client.create(path, obj)

    async def install(self) -> None:
        """What `kubectl apply -k manifests` brings, as far as the check looks at it."""
        await self.create(CRDS, *all_crds(), *cache_crds())
        for obj in [*rbac(), *pod_deletion_cost_rbac()]:
            kind, namespace = obj["kind"], obj["metadata"].get("namespace")
            if kind != "ServiceAccount":
                folder = f"{RBAC}/namespaces/{namespace}" if namespace else RBAC
                await self.create(f"{folder}/{kind.lower()}s", obj)
        await self.lease(holder="pod-1", age_s=1.0)

    async def lease(self, *, holder: str, age_s: float) -> None:
        renewed = rfc3339(WallClock().now_s() - age_s).replace("Z", ".000000Z")
        spec = {"holderIdentity": holder, "renewTime": renewed, "leaseDurationSeconds": 15}
        body = {"metadata": {"name": LEASE_NAME}, "spec": spec}
        await self.create("/apis/coordination.k8s.io/v1/namespaces/warmtide/leases", body)

    async def policy(self, spec: Object, name: str = "gold") -> None:
        await self.create(
            f"/apis/warmtide.dev/v1alpha1/{TEAM}/scalingpolicies",
            OURS | {"kind": "ScalingPolicy", "metadata": {"name": name}, "spec": spec},
        )

    async def deployment(self, policy: str = "gold") -> None:
        labels = {"app": "qwen"}
        container = {"name": "vllm", "image": "vllm", "args": ["--shutdown-timeout=20"]}
        pod = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
        metadata = {"name": "qwen", "annotations": {"warmtide.dev/policy": policy}}
        spec = {"selector": {"matchLabels": labels}, "template": pod}
        await self.create(f"/apis/apps/v1/{TEAM}/deployments", {"metadata": metadata, "spec": spec})

    async def pod(self) -> None:
        spec = {"containers": [{"name": "vllm", "image": "vllm"}]}
        await self.create(
            f"/api/v1/{TEAM}/pods", {"metadata": {"name": "qwen-1", "labels": {"app": "qwen"}}, "spec": spec}
        )
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(0)}
        status = {"phase": "Running", "podIP": "127.0.0.1", "conditions": [ready]}
        await self.client.patch(f"/api/v1/{TEAM}/pods/qwen-1/status", {"status": status})

    async def status(self, status: Object) -> None:
        """What the controller said about the service."""
        path = f"/apis/warmtide.dev/v1alpha1/{TEAM}/scaledservices"
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"}
        labels = {"app.kubernetes.io/managed-by": "warmtide"}
        spec = {"targetRef": target, "policyRef": {"name": "gold"}}
        await self.create(
            path, OURS | {"kind": "ScaledService", "metadata": {"name": "qwen", "labels": labels}, "spec": spec}
        )
        await self.client.patch(f"{path}/qwen/status", {"status": status})

    async def hpa(self) -> None:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"}
        spec = {"scaleTargetRef": target, "maxReplicas": 3}
        await self.create(
            f"/apis/autoscaling/v2/{TEAM}/horizontalpodautoscalers", {"metadata": {"name": "old"}, "spec": spec}
        )

    async def check(self, *arguments: str, token: str | None = None) -> tuple[int, Object]:
        """The command itself: exit code and JSON answer."""
        kubeconfig = self.server.write_kubeconfig(self.folder / "asked", token)
        code, text = await _run([*arguments, "-o", "json", "--kubeconfig", str(kubeconfig)])
        return code, json.loads(text)


async def _run(arguments: list[str]) -> tuple[int, str]:
    """`main` in a thread of its own: it runs a loop of its own."""
    import contextlib
    import io

    out = io.StringIO()

    def call() -> int:
        with contextlib.redirect_stdout(out):
            return main(arguments)

    return await asyncio.to_thread(call), out.getvalue()


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with (
        ApiServer(tokens={STRANGER: User("stranger", ("system:authenticated",))}) as server,
        KubeClient.from_config(server.write_kubeconfig(tmp_path / "kubeconfig")) as client,
    ):
        cluster = Cluster(server, client, tmp_path)
        await cluster.create("/api/v1/namespaces", *({"metadata": {"name": name}} for name in ("warmtide", "team-a")))
        yield cluster


def metrics_page(text: str) -> AbstractAsyncContextManager[int]:
    """A pod's metrics page."""
    return page("/metrics", text)


@asynccontextmanager
async def page(path: str, text: str) -> AsyncIterator[int]:
    """A server on loopback that says always the same; gives its port."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=text)

    app = web.Application()
    app.router.add_get(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def found(answer: Object, subject: str) -> Object:
    (finding,) = (check for check in answer["checks"] if check["subject"] == subject)
    return dict(finding)


def verdicts(answer: Object) -> dict[str, str]:
    return {check["subject"]: check["verdict"] for check in answer["checks"]}


async def test_an_empty_cluster_lacks_everything_and_says_how_to_get_it(cluster: Cluster) -> None:
    code, answer = await cluster.check()

    assert code == 1
    assert not answer["ok"]
    assert verdicts(answer) == {
        "Kubernetes": "ok",
        "CRD scalingpolicies.warmtide.dev": "fail",
        "CRD scaledservices.warmtide.dev": "fail",
        "CRD modelcaches.warmtide.dev": "fail",
        "CRD nodemodelcaches.warmtide.dev": "fail",
        f"permissions of {ACCOUNT}": "fail",
        "controller": "fail",
        "KServe": "ok",
        "services": "warn",
    }
    assert all(check["todo"] for check in answer["checks"] if check["verdict"] != "ok")


async def test_a_cluster_in_order_is_all_ok(cluster: Cluster) -> None:
    await cluster.install()
    await cluster.deployment()
    await cluster.pod()
    async with metrics_page("vllm:num_requests_running 1\nvllm:num_requests_waiting 0\n") as port:
        await cluster.policy({"mode": "direct", "metrics": {"port": port}})

        code, answer = await cluster.check()

    assert (code, answer["ok"], set(verdicts(answer).values())) == (0, True, {"ok"})
    assert found(answer, f"permissions of {ACCOUNT}")["message"].startswith("are complete")
    assert found(answer, "controller")["message"] == "pod-1 leads"
    assert found(answer, "team-a/qwen metrics")["message"] == "1 of 1 ready pods read from here"


@pytest.mark.parametrize(("mode", "verdict", "code"), [("direct", "fail", 1), ("advise", "warn", 0)])
async def test_another_scaler_is_a_conflict_only_for_who_writes(
    cluster: Cluster, mode: str, verdict: str, code: int
) -> None:
    await cluster.install()
    await cluster.deployment()
    await cluster.policy({"mode": mode})
    await cluster.hpa()

    exit_code, answer = await cluster.check()

    finding = found(answer, "team-a/qwen")
    assert (finding["verdict"], exit_code) == (verdict, code)
    assert finding["message"].startswith("HorizontalPodAutoscaler team-a/old: spec.scaleTargetRef names Deployment")


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        ("gold", 'ScalingPolicy team-a/gold: spec.schedules[0].timeZone: "Mars" is no IANA time zone'),
        ("silver", "there is no ScalingPolicy silver in namespace team-a or warmtide; create it"),
        ("Not A Name", 'Deployment team-a/qwen: metadata.annotations[warmtide.dev/policy]: "Not A Name" must be'),
    ],
)
async def test_a_policy_that_cannot_be_used_is_named(cluster: Cluster, annotation: str, said: str) -> None:
    window = {"name": "w", "start": "0 8 * * *", "end": "0 9 * * *", "timeZone": "Mars", "minReplicas": 1}
    await cluster.install()
    await cluster.policy({"schedules": [window]})
    await cluster.deployment(annotation)

    code, answer = await cluster.check("--namespace", "team-a")

    assert code == 1
    assert said in found(answer, "team-a/qwen")["message"]


@pytest.mark.parametrize(
    ("freshness", "age_s", "verdict", "said"),
    [
        pytest.param(None, 0.0, "fail", "1 of 1 cannot be read from here", id="the controller said nothing"),
        pytest.param({"podsScraped": 1}, 1.0, "ok", "the controller reads all pods", id="the controller reads it"),
        pytest.param({"podsScraped": 1}, STATUS_FRESH_S + 60, "fail", "cannot be read", id="it did, long ago"),
        pytest.param({"podsScraped": 1, "podsBlind": 1}, 1.0, "fail", "the controller: 1 blind", id="it is half blind"),
        pytest.param(
            {"podsScraped": 1, "scrapeFailures": {"Timeout": 1}},
            1.0,
            "fail",
            "the controller: Timeout ×1",
            id="it says why",
        ),
    ],
)
async def test_metrics_that_cannot_be_read_from_here_are_judged_by_what_the_controller_sees(
    cluster: Cluster, freshness: Object | None, age_s: float, verdict: str, said: str
) -> None:
    await cluster.install()
    await cluster.deployment()
    await cluster.pod()
    async with metrics_page("") as port:
        await cluster.policy({"metrics": {"port": port}})
        if freshness is not None:
            await cluster.status({"time": rfc3339(WallClock().now_s() - age_s), "freshness": freshness})

        _, answer = await cluster.check()

    finding = found(answer, "team-a/qwen metrics")
    assert finding["verdict"] == verdict
    assert said in finding["message"]


SLEEPY = {"replicas": {"min": 0}, "upstream": {"query": "sum(queue)"}, "zero": {"enabled": True}}


@pytest.mark.parametrize(
    ("value", "verdict", "said"),
    [
        ([{"metric": {}, "value": [1, "3"]}], "ok", "3 requests wait"),
        ([{"metric": {}, "value": [1, "0"]}], "ok", "0 requests wait"),
        ([], "fail", "Prometheus knows no such series: sum(queue)"),
        ([{"metric": {}, "value": [1, "1"]}] * 2, "fail", "aggregate with sum()"),
    ],
    ids=["some", "none", "unknown", "many series"],
)
async def test_the_query_for_what_waits_upstream_is_tried(
    cluster: Cluster, value: object, verdict: str, said: str
) -> None:
    await cluster.install()
    await cluster.deployment()
    await cluster.policy(SLEEPY)
    answer_of_prometheus = {"status": "success", "data": {"resultType": "vector", "result": value}}
    async with page("/api/v1/query", json.dumps(answer_of_prometheus)) as port:
        _, answer = await cluster.check("--prometheus-url", f"http://127.0.0.1:{port}")

    finding = found(answer, "team-a/qwen upstream")
    assert finding["verdict"] == verdict
    assert said in finding["message"]


@pytest.mark.parametrize(
    ("freshness", "verdict", "said"),
    [
        ({"upstreamWaitingRequests": 2, "upstreamAgeSeconds": 1}, "ok", "the controller counts 2 waiting requests"),
        ({"upstreamProblem": "Prometheus is away"}, "fail", "the controller: Prometheus is away"),
        ({}, "warn", "the query was not tried"),
    ],
    ids=["it counts", "it cannot", "it said nothing"],
)
async def test_without_a_prometheus_the_controllers_word_on_the_upstream_counts(
    cluster: Cluster, freshness: Object, verdict: str, said: str
) -> None:
    await cluster.install()
    await cluster.deployment()
    await cluster.policy(SLEEPY)
    await cluster.status({"time": rfc3339(WallClock().now_s() - 1), "freshness": freshness})

    _, answer = await cluster.check()

    finding = found(answer, "team-a/qwen upstream")
    assert finding["verdict"] == verdict
    assert said in finding["message"]


async def test_prometheus_gets_the_token_of_the_file_named(cluster: Cluster) -> None:
    await cluster.install()
    await cluster.deployment()
    await cluster.policy(SLEEPY)

    _, answer = await cluster.check("--prometheus-url", "http://127.0.0.1:1", "--prometheus-token-file", "/no/token")

    assert "bearer token file /no/token cannot be read" in found(answer, "team-a/qwen upstream")["message"]


async def test_a_prometheus_url_that_is_none_is_called_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["--prometheus-url", "prometheus:9090"])

    assert "'prometheus:9090' is no http:// or https:// URL" in capsys.readouterr().err


async def test_before_a_pod_is_ready_nothing_can_be_read(cluster: Cluster) -> None:
    await cluster.install()
    await cluster.deployment()
    await cluster.policy({})

    _, answer = await cluster.check()

    assert found(answer, "team-a/qwen metrics")["message"] == "no pod is ready"


@pytest.mark.parametrize(
    ("holder", "age_s", "verdict", "said"),
    [
        ("pod-1", LEASE_STALE_S - 5, "ok", "pod-1 leads"),
        ("pod-1", LEASE_STALE_S + 5, "fail", "pod-1 led, but last said so 35s ago"),
        ("", 0.0, "fail", "nobody leads"),
    ],
)
async def test_the_lease_tells_whether_a_controller_runs(
    cluster: Cluster, holder: str, age_s: float, verdict: str, said: str
) -> None:
    await cluster.lease(holder=holder, age_s=age_s)

    _, answer = await cluster.check()

    finding = found(answer, "controller")
    assert finding["verdict"] == verdict
    assert finding["message"].startswith(said[:-6])


async def test_who_may_read_little_is_told_what_could_not_be_examined(cluster: Cluster) -> None:
    await cluster.install()

    _, answer = await cluster.check(token=STRANGER)

    assert found(answer, "CRD scalingpolicies.warmtide.dev")["message"] == "you may not read it"
    assert "permissions of you (those of others you may not ask for)" in verdicts(answer)


async def test_a_crd_of_another_version_is_a_warning(cluster: Cluster) -> None:
    await cluster.install()
    change = {"spec": {"versions": [all_crds()[0]["spec"]["versions"][0] | {"additionalPrinterColumns": []}]}}
    await cluster.client.patch(f"{CRDS}/scalingpolicies.warmtide.dev", change)

    _, answer = await cluster.check()

    assert found(answer, "CRD scalingpolicies.warmtide.dev")["verdict"] == "warn"


async def test_a_cluster_that_does_not_answer_is_one_finding(cluster: Cluster) -> None:
    kubeconfig = cluster.server.write_kubeconfig(cluster.folder / "kubeconfig")
    await cluster.server.stop()

    code, text = await _run(["--kubeconfig", str(kubeconfig)])

    assert code == 1
    assert text.startswith("fail  API server  The cluster does not answer")
    assert text.endswith("\n1 fail\n")
