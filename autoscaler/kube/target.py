"""One service of the cluster as `reconcile` needs it: observed from the caches, scaled and reported through the API."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from autoscaler.caching.sight import sight_of
from autoscaler.cluster import Cluster
from autoscaler.collect import Collector
from autoscaler.conditions import Problem
from autoscaler.enrol import Target
from autoscaler.errors import ApiFailure, Conflict, NamespaceTerminating, RetryLaterError
from autoscaler.kube.publish import Publisher
from autoscaler.kube.reports import Reports
from autoscaler.kube.scale import Scaler, problem_of
from autoscaler.kube.views import DeploymentView
from autoscaler.observe import Scene, observation
from autoscaler.policy.memory import Memory
from autoscaler.policy.recall import dump
from autoscaler.policy.spec import LensTargets, Mode
from autoscaler.policy.types import Decision, Observation
from autoscaler.quota import budget_replicas
from autoscaler.refusal import Refusal, RefusalReason
from autoscaler.report import Freshness, ServiceReport, render
from autoscaler.service import Service
from autoscaler.settings import ServicePolicy
from autoscaler.status_changes import REASON_SPACING_S, REFRESH_S, events_for, needs_write
from autoscaler.timestamps import unix_s
from autoscaler.upstream import NOT_ASKED_YET, NoUpstream, Upstream
from metrics.clock import Clock

DEFAULT_MAX_AGE_S = LensTargets().max_age_s
# Reasons that lie in what was enrolled rather than in somebody else.
_ENROLMENT = frozenset({RefusalReason.DEPLOYMENT_MISSING, RefusalReason.AMBIGUOUS, RefusalReason.STOPPED})

log = logging.getLogger(__name__)


class Past(Protocol):
    """Where demand of the past comes from."""

    @property
    def problem(self) -> str:
        """Why there is none, in words; empty: nothing is wrong."""
        ...

    def take(self, key: str, namespace: str, deployment: str) -> tuple[tuple[float, float], ...]:
        """(Unix seconds, tokens per second), once per service."""
        ...


class NoPast:
    """Nobody to ask."""

    problem = ""

    def take(self, key: str, namespace: str, deployment: str) -> tuple[tuple[float, float], ...]:
        """Nothing."""
        return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The parts that all services share."""

    cluster: Cluster
    collector: Collector
    scaler: Scaler
    publisher: Publisher
    reports: Reports
    clock: Clock
    stale_for_s: Callable[[float], float]
    past: Past
    server_ahead_s: Callable[[], float] = lambda: 0.0
    upstream: Upstream = field(default_factory=NoUpstream)


class KubeTarget:
    """One service during one pass."""

    def __init__(self, world: World, service: Service, target: Target, policy: ServicePolicy) -> None:
        self._world = world
        self._service = service
        self._target = target
        self._policy = policy
        self._deployment: DeploymentView | None = None
        self._must_read = False

    async def observe(self, now_s: float) -> Observation:
        """From the caches; from the API after a Conflict."""
        world, service = self._world, self._service
        cached = world.cluster.deployments.get(self._target.deployment or "")
        if cached is None:
            raise RetryLaterError(f"Deployment {self._target.deployment} went away during the pass")
        if self._must_read:
            service.note_reread(await world.scaler.read(cached))
            self._must_read = False
        self._deployment = deployment = service.current(cached)
        if service.was_reverted(deployment):
            await self._note_revert(deployment, now_s)
        pods = world.cluster.pods_of(deployment)
        world.collector.watch(service.key, pods, self._policy)
        service.upstream = world.upstream.watch(service.key, self._policy.upstream)
        service.model = sight_of(world.cluster, self._target, deployment)
        rivals = world.cluster.rivals_of(deployment.meta.key)
        scene = Scene(
            target=self._target,
            policy=self._policy,
            deployment=deployment,
            pods=pods,
            nodes=world.cluster.nodes,
            signals=lambda uid: world.collector.signals(uid, now_s),
            free_replicas=world.cluster.gpus.free_replicas(deployment),
            incumbent_replicas=next((r.replicas_desired for r in rivals if r.replicas_desired), None),
            history=world.past.take(service.key, deployment.meta.namespace, deployment.meta.name),
            upstream=service.upstream,
            server_ahead_s=world.server_ahead_s(),
            budget_replicas=budget_replicas(deployment, pods, world.cluster.quotas_of(deployment.meta.namespace)),
            model=service.model,
            landing=service.landing.settle(service.model.landing if service.model else None, now_s),
        )
        return observation(scene, now_s=now_s)

    def stale_for_s(self, now_s: float) -> float:
        """By the informers of pods and Deployments."""
        return self._world.stale_for_s(now_s)

    async def scale_to(self, decision: Decision, *, expected_version: str) -> None:
        """Patch the scale subresource."""
        deployment, world, service = self._seen(), self._world, self._service
        if decision.victim is not None and decision.replicas < decision.current_replicas:
            await world.scaler.mark_victim(deployment.meta.namespace, decision.victim, world.clock.now_s())
        try:
            version = await world.scaler.scale(deployment, decision.replicas, expected_version=expected_version)
        except Conflict:
            self._must_read = True
            raise
        except ApiFailure as failure:
            service.scale_problem = problem_of(failure, deployment)
            if service.scale_problem is None:
                raise
            return
        service.scale_problem = None
        service.note_scaled(decision.replicas, version)

    async def report(self, seen: Observation, decision: Decision, memory: Memory) -> None:
        """Have the status written when it is worth it; the pass does not wait for it."""
        service = self._service
        now_s = self._world.clock.now_s()
        shown = (decision.replicas, seen.replicas, decision.supply, service.scale_problem, service.policy_problem)
        if shown == service.shown and abs(now_s - service.shown_at_s) < REASON_SPACING_S:
            return
        service.shown, service.shown_at_s = shown, now_s
        found = Findings(decision=decision, memory=memory, incumbent_replicas=seen.incumbent_replicas)
        tell(self._world, service, self._target, found)

    async def _note_revert(self, deployment: DeploymentView, now_s: float) -> None:
        contest = self._service.contest
        if not contest.revert(now_s):
            return
        who = await self._world.scaler.who_wrote(deployment) or "a writer that managedFields do not name"
        contest.message = (
            f"Deployment {deployment.meta.key}: spec.replicas was set back to {deployment.replicas} again and again "
            f"by {who}; stop it from writing replicas, or use mode advise"
        )
        raise RetryLaterError(contest.message)

    def _seen(self) -> DeploymentView:
        if self._deployment is None:
            raise RuntimeError("scale_to before observe")
        return self._deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a pass has to say."""

    decision: Decision | None = None
    memory: Memory | None = None
    refusal: Refusal | None = None
    incumbent_replicas: int | None = None
    is_last: bool = False  # shutting down


def tell(world: World, service: Service, target: Target, found: Findings) -> None:
    """Render a service's status, and have it written when an operator would care or it is old."""
    if note(world, service, target, found):
        world.reports.put(service.key, lambda: publish(world, service, target))


def note(world: World, service: Service, target: Target, found: Findings) -> bool:
    """The status as it should be from now on, and the Events for it; False: what is written is good enough."""
    now_s = world.clock.now_s()
    known = world.cluster.scaled_services.get(service.key)
    if not service.status and known is not None:
        service.status = service.written = known.status
    report = _report(world, service, target, found)
    generation = known.meta.generation if known is not None else 1
    status = dict(render(replace(report, observed_generation=generation), service.status, now_s))
    if not (found.is_last or needs_write(service.written, status, now_s)):
        return False
    service.notices += events_for(service.status, status)
    service.status = status
    return True


async def publish(world: World, service: Service, target: Target) -> None:
    """Bring the ScaledService from what is written to what should be, and send the Events."""
    try:
        await world.publisher.ensure(target)
        status = service.status
        await world.publisher.write(target, service.written, status)
    except NamespaceTerminating:
        service.notices.clear()  # nobody is left to read them
        return
    service.written = status
    while service.notices:
        await world.publisher.send(target, service.notices.popleft(), world.clock.now_s())


def _report(world: World, service: Service, target: Target, found: Findings) -> ServiceReport:
    now_s, policy, refusal = world.clock.now_s(), service.policy, found.refusal
    problem = Problem(reason=refusal.reason.value, message=refusal.message) if refusal else None
    is_about_us = refusal is not None and refusal.reason in _ENROLMENT
    max_age_s = policy.spec.targets.max_age_s if policy else DEFAULT_MAX_AGE_S
    return ServiceReport(
        service=service.key,
        mode=policy.spec.mode if policy else Mode.OBSERVE,
        policy=policy.name if policy else "",
        policy_generation=policy.generation if policy else 0,
        target=f"Deployment {target.deployment}" if target.deployment else str(target.subject),
        decision=found.decision,
        freshness=_freshness(world, service, max_age_s, now_s),
        incumbent_replicas=found.incumbent_replicas,
        model=service.model,
        policy_problem=service.policy_problem,
        enrolment_problem=problem if is_about_us else None,
        refusal=None if is_about_us else problem,
        scale_problem=service.scale_problem,
        learned=_learned(service, found, now_s),
        is_last=found.is_last,
    )


def _freshness(world: World, service: Service, max_age_s: float, now_s: float) -> Freshness:
    """How well pods, the past and the upstream are seen."""
    reading = service.upstream
    age_s = None if reading.observed_at_s is None else max(0.0, now_s - reading.observed_at_s)
    is_fresh = age_s is not None and age_s <= max_age_s
    return replace(
        world.collector.freshness(service.key, max_age_s, now_s),
        history_problem=world.past.problem,
        upstream_waiting_requests=reading.waiting_requests if is_fresh else None,
        upstream_age_s=age_s,
        upstream_problem="" if reading.problem == NOT_ASKED_YET else reading.problem,
    )


def _learned(service: Service, found: Findings, now_s: float) -> Mapping[str, Any] | None:
    """Only when it will be written: a memory is some 10 kB."""
    if found.memory is None:
        return None
    written_s = unix_s(service.status.get("learnedTime", ""))
    is_due = found.is_last or written_s is None or abs(now_s - written_s) >= REFRESH_S
    return dump(found.memory) if is_due else None
