"""Each enrolled service under examination: its policy, who else scales it, whether its pods' metrics can be read."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from autoscaler.check_cluster import Reader
from autoscaler.check_drain import examine_drain
from autoscaler.check_upstream import examine_upstream
from autoscaler.collect import scrape_target
from autoscaler.conflicts import Rivals
from autoscaler.enrol import Objects, Target, targets
from autoscaler.errors import Forbidden, NotFound
from autoscaler.findings import Finding, fail, ok, warn
from autoscaler.kube.resources import (
    DEPLOYMENTS,
    HPAS,
    INFERENCE_SERVICES,
    PODS,
    SCALED_OBJECTS,
    SCALED_SERVICES,
    SCALING_POLICIES,
    Object,
    Resource,
)
from autoscaler.kube.views import (
    DeploymentView,
    Meta,
    PodView,
    PolicyView,
    ScaledServiceView,
    ScalerView,
    ServiceView,
    deployment_view,
    hpa_view,
    meta_of,
    pod_view,
    policy_view,
    scaled_object_view,
    scaled_service_view,
    service_view,
)
from autoscaler.policies import PolicyBook
from autoscaler.policy.spec import Mode
from autoscaler.settings import ServicePolicy
from autoscaler.timestamps import unix_s
from autoscaler.upstream import Source
from metrics.errors import ScrapeError
from metrics.sample import EngineSample
from metrics.target import ScrapeTarget

# Enough to tell one broken pod from a broken service; a doctor must not scrape 5,000 pods.
PODS_TRIED = 5
# What the controller saw longer ago than this says nothing about now; it writes at least once a minute.
STATUS_FRESH_S = 180.0


class PageReader(Protocol):
    """Reads one pod's metrics; `metrics.scrape.Scraper` does."""

    async def scrape(self, target: ScrapeTarget) -> EngineSample: ...


class _HasMeta(Protocol):
    @property
    def meta(self) -> Meta: ...


_View = TypeVar("_View", bound=_HasMeta)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """All objects that concern enrolled services, by namespace/name."""

    services: Mapping[str, ServiceView]
    deployments: Mapping[str, DeploymentView]
    policies: Mapping[str, PolicyView]
    scaled: Mapping[str, ScaledServiceView]
    scalers: Sequence[ScalerView]
    raw_deployments: Mapping[str, Object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruments:
    """What services are examined with."""

    client: Reader
    pages: PageReader
    prometheus: Source | None = None  # None: what waits upstream is not tried from here


async def examine_services(
    instruments: Instruments, *, namespace: str | None, home: str, now_s: float
) -> AsyncGenerator[Finding, None]:
    """Findings of every enrolled service. `home` is the controller's namespace."""
    client = instruments.client
    seen = await _look(client, namespace, home)
    enrolled = targets(
        Objects(
            services=seen.services,
            deployments=seen.deployments,
            scaled_services=seen.scaled,
            rivals=Rivals.of(seen.scalers),
        )
    )
    if not enrolled:
        todo = "annotate one with warmtide.dev/policy, or write a ScaledService (manifests/samples)"
        yield warn("services", "none is enrolled", todo)
    book = PolicyBook(seen.policies, home)
    for key, target in sorted(enrolled.items()):
        policy, problem = book.find(target)
        if policy is None:
            message = problem.message if problem else "no policy"
            yield fail(key, message, f"kubectl edit the object named (target {target.subject})")
            continue
        for finding in _judged(key, target, policy):
            yield finding
        said = _said_lately(seen.scaled.get(key), now_s)
        deployment = seen.deployments.get(target.deployment or "")
        if deployment is not None:
            pods = await _pods(client, deployment)
            yield await _metrics(key, pods, policy, instruments.pages, _controllers_view(said))
            yield examine_drain(key, seen.raw_deployments[deployment.meta.key])
        if policy.upstream is not None:
            yield await examine_upstream(key, policy.upstream, instruments.prometheus, said)


async def _look(client: Reader, namespace: str | None, home: str) -> Seen:
    services, deployments, policies, scaled, hpas, scaled_objects = [
        await _list(client, resource, namespace)
        for resource in (INFERENCE_SERVICES, DEPLOYMENTS, SCALING_POLICIES, SCALED_SERVICES, HPAS, SCALED_OBJECTS)
    ]
    if namespace not in (None, home):
        policies = [*policies, *await _list(client, SCALING_POLICIES, home)]
    return Seen(
        services=_keyed(services, service_view),
        deployments=_keyed(deployments, deployment_view),
        policies=_keyed(policies, policy_view),
        scaled=_keyed(scaled, scaled_service_view),
        scalers=[*map(hpa_view, hpas), *map(scaled_object_view, scaled_objects)],
        raw_deployments={meta_of(one).key: one for one in deployments},
    )


async def _list(client: Reader, resource: Resource, namespace: str | None) -> Sequence[Object]:
    """All objects of a kind; none where it is not installed or not ours to see (the cluster's findings say so)."""
    try:
        return await client.list(resource.path(namespace))
    except (NotFound, Forbidden):
        return []


def _keyed(objects: Sequence[Object], view: Callable[[Object], _View]) -> dict[str, _View]:
    return {seen.meta.key: seen for seen in map(view, objects)}


def _judged(key: str, target: Target, policy: ServicePolicy) -> Sequence[Finding]:
    """Policy and refusals; those that matter only when writing are warnings until the mode is direct."""
    mode = policy.spec.mode
    if not target.refusals:
        return [ok(key, f"policy {policy.name} in mode {mode}; nobody else scales {target.subject}")]
    return [
        fail(key, refusal.message, "Warmtide leaves it alone until then")
        if refusal.holds_in(mode)
        else warn(key, refusal.message, f"fine in mode {mode}; mend it before mode {Mode.DIRECT}")
        for refusal in target.refusals
    ]


async def _pods(client: Reader, deployment: DeploymentView) -> list[PodView]:
    found = map(pod_view, await _list(client, PODS, deployment.meta.namespace))
    return [
        pod
        for pod in found
        if deployment.selector.selects(pod.labels) and pod.ip and pod.ready_at_s is not None and not pod.is_terminating
    ]


async def _metrics(
    key: str, pods: Sequence[PodView], policy: ServicePolicy, pages: PageReader, controller: str | None
) -> Finding:
    """Whether metrics can be read: by the controller, whose view counts, and from here."""
    subject = f"{key} metrics"
    if not pods:
        return warn(subject, "no pod is ready", "nothing can be read before one is")
    tried = pods[:PODS_TRIED]
    results = await asyncio.gather(*(_try(pages, scrape_target(pod, policy.endpoint)) for pod in tried))
    failures = Counter(result.kind.value for result in results if result is not None)
    if not failures:
        return ok(subject, f"{len(tried)} of {len(pods)} ready pods read from here")
    first = next(result for result in results if result is not None)
    share = f"{failures.total()} of {len(tried)} cannot be read from here"
    if controller == "":
        return ok(subject, f"the controller reads all pods ({share})")
    said = f"{share}: {first.what}"
    where = "run this check inside the cluster, or see spec.metrics of the policy and network policies"
    return fail(subject, f"{said}; the controller: {controller}" if controller else said, where)


async def _try(pages: PageReader, target: ScrapeTarget) -> ScrapeError | None:
    try:
        await pages.scrape(target)
    except ScrapeError as exc:
        return exc
    return None


def _said_lately(scaled: ScaledServiceView | None, now_s: float) -> Mapping[str, Any]:
    """How well the controller says that it sees a service; nothing when it said so long ago."""
    status: Mapping[str, Any] = scaled.status if scaled else {}
    written_s = unix_s(status.get("time", ""))
    if written_s is None or now_s - written_s > STATUS_FRESH_S:
        return {}
    return status.get("freshness") or {}


def _controllers_view(fresh: Mapping[str, Any]) -> str | None:
    """What the controller last said: empty when it reads all pods, None when it said nothing lately."""
    if not fresh.get("podsScraped"):
        return None
    failures = ", ".join(f"{kind} ×{count}" for kind, count in sorted((fresh.get("scrapeFailures") or {}).items()))
    return failures or (f"{fresh['podsBlind']} blind" if fresh.get("podsBlind") else "")
