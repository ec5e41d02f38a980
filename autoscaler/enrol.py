"""Which workloads are ours: from annotations and ScaledService objects to Deployments, and what speaks against each.

Pure. A workload is enrolled by the annotation `warmtide.dev/policy` on an InferenceService or a Deployment, or by a
ScaledService that a user wrote. KServe copies an InferenceService's annotations to its Deployments, so the annotation
on a Deployment that an InferenceService controls is that copy and enrols nothing by itself.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from autoscaler.conflicts import Rivals, refusals_of
from autoscaler.errors import BadSpecError
from autoscaler.kube.resources import DEPLOYMENTS, INFERENCE_SERVICES, SCALED_SERVICES
from autoscaler.kube.views import DeploymentView, ScaledServiceView, ServiceView
from autoscaler.parse import parse_annotation, parse_scaled_service
from autoscaler.policy.spec import Mode
from autoscaler.refusal import Refusal, RefusalReason
from autoscaler.settings import ANNOTATION
from cacheops.uri import Scheme

MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "warmtide"
SERVICE_LABEL = "serving.kserve.io/inferenceservice"
COMPONENT_LABEL = "component"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The object that is enrolled: its ScaledService is owned by it and Events are about it."""

    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def is_mounted(uri: str) -> bool:
    """Whether KServe mounts what a `storageUri` names, so that no copy on a node stands in for it."""
    return uri.startswith(f"{Scheme.PVC}://")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One enrolled service. `key` is the `namespace/name` of its ScaledService."""

    key: str
    subject: Subject
    policy: str = ""
    is_user_written: bool = False  # the ScaledService is the user's own
    deployment: str | None = None  # `namespace/name`
    native_min: int | None = None
    native_max: int | None = None
    model_uri: str = ""  # where the weights come from, where the service says so
    problem: BadSpecError | None = None  # what is wrong with the annotation or the ScaledService
    refusals: tuple[Refusal, ...] = ()

    @property
    def namespace(self) -> str:
        """Where all of it lives."""
        return self.subject.namespace

    @property
    def fetched_uri(self) -> str:
        """What a start fetches, unless a cache has it; empty for a claim, which KServe mounts where it is."""
        return "" if is_mounted(self.model_uri) else self.model_uri

    def refusal(self, mode: Mode) -> Refusal | None:
        """The first reason that matters in a mode."""
        return next((refusal for refusal in self.refusals if refusal.holds_in(mode)), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Objects:
    """The objects that enrolment is read from, by `namespace/name`."""

    services: Mapping[str, ServiceView] = field(default_factory=dict)
    deployments: Mapping[str, DeploymentView] = field(default_factory=dict)
    scaled_services: Mapping[str, ScaledServiceView] = field(default_factory=dict)
    rivals: Rivals = field(default_factory=Rivals)
    kserve_version: str | None = None


def targets(objects: Objects) -> dict[str, Target]:
    """Every enrolled service by key, each with its Deployment and what speaks against scaling it."""
    found = [*_annotated(objects), *_written(objects)]
    resolver = _Resolver(objects)
    resolved = [resolver.resolve(target) for target in _once(found)]
    return {target.key: target for target in _named(_refuse_shared(resolved))}


def is_ours(view: ScaledServiceView) -> bool:
    """Whether the controller wrote this ScaledService, not a user."""
    return view.meta.labels.get(MANAGED_BY_LABEL) == MANAGED_BY


def _annotated(objects: Objects) -> Iterable[Target]:
    for service in objects.services.values():
        if ANNOTATION in service.meta.annotations and not service.meta.is_deleted:
            yield _by_annotation(service, service.api_version, INFERENCE_SERVICES.kind)
    for deployment in objects.deployments.values():
        owner = deployment.meta.owner
        is_copy = owner is not None and owner.kind == INFERENCE_SERVICES.kind
        if ANNOTATION in deployment.meta.annotations and not is_copy and not deployment.meta.is_deleted:
            yield _by_annotation(deployment, DEPLOYMENTS.api_version, DEPLOYMENTS.kind)


def _by_annotation(view: ServiceView | DeploymentView, api_version: str, kind: str) -> Target:
    meta = view.meta
    subject = Subject(api_version=api_version, kind=kind, namespace=meta.namespace, name=meta.name, uid=meta.uid)
    try:
        policy, problem = parse_annotation(str(subject), meta.annotations[ANNOTATION]), None
    except BadSpecError as exc:
        policy, problem = "", exc
    return Target(key=meta.key, subject=subject, policy=policy, problem=problem)


def _written(objects: Objects) -> Iterable[Target]:
    """What users enrolled by a ScaledService of their own."""
    for view in objects.scaled_services.values():
        if is_ours(view) or view.meta.is_deleted:
            continue
        meta = view.meta
        document = {"metadata": {"namespace": meta.namespace, "name": meta.name}, "spec": view.spec}
        try:
            asked = parse_scaled_service(document)
        except BadSpecError as exc:
            itself = Subject(
                api_version=SCALED_SERVICES.api_version,
                kind=SCALED_SERVICES.kind,
                namespace=meta.namespace,
                name=meta.name,
                uid=meta.uid,
            )
            yield Target(key=meta.key, subject=itself, is_user_written=True, problem=exc)
            continue
        table: Mapping[str, ServiceView | DeploymentView] = (
            objects.services if asked.kind == INFERENCE_SERVICES.kind else objects.deployments
        )
        named = table.get(f"{meta.namespace}/{asked.name}")
        subject = Subject(
            api_version=asked.api_version,
            kind=asked.kind,
            namespace=meta.namespace,
            name=asked.name,
            uid=named.meta.uid if named else "",
        )
        yield Target(key=meta.key, subject=subject, policy=asked.policy, is_user_written=True)


def _once(found: Iterable[Target]) -> list[Target]:
    """An annotation and a ScaledService that say the same are one enrolment; the ScaledService is its home."""
    kept: dict[tuple[str, str, str, str], Target] = {}
    for target in found:
        subject = target.subject
        identity = (subject.kind, subject.namespace, subject.name, target.policy)
        if identity not in kept or (target.is_user_written and not kept[identity].is_user_written):
            kept[identity] = target
        elif target.is_user_written:
            kept[(*identity[:3], target.key)] = target  # two ScaledServices for one object: refused below
    return list(kept.values())


class _Resolver:
    """From an enrolled object to its Deployment, with one index over all Deployments."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._predictors: dict[str, list[DeploymentView]] = defaultdict(list)
        for deployment in objects.deployments.values():
            if name := deployment.meta.labels.get(SERVICE_LABEL):
                self._predictors[f"{deployment.meta.namespace}/{name}"].append(deployment)

    def resolve(self, target: Target) -> Target:
        if target.subject.kind == SCALED_SERVICES.kind:
            return target  # it names nothing that could be looked up
        service = self._service_of(target)
        found = self._deployments_of(target, service)
        if service is not None:
            target = replace(
                target,
                native_min=service.replicas_min,
                native_max=service.replicas_max,
                model_uri=service.model_uri,
            )
        deployment = found[0] if len(found) == 1 else None
        refusals = list(refusals_of(service, deployment, self._objects.rivals, self._objects.kserve_version))
        if deployment is None:
            refusals.append(_missing(target.subject) if not found else _ambiguous(target.subject, found))
        return replace(target, deployment=deployment.meta.key if deployment else None, refusals=tuple(refusals))

    def _service_of(self, target: Target) -> ServiceView | None:
        """The InferenceService, enrolled itself or in control of the enrolled Deployment."""
        if target.subject.kind == INFERENCE_SERVICES.kind:
            return self._objects.services.get(f"{target.namespace}/{target.subject.name}")
        deployment = self._objects.deployments.get(f"{target.namespace}/{target.subject.name}")
        owner = deployment.meta.owner if deployment else None
        if owner is None or owner.kind != INFERENCE_SERVICES.kind:
            return None
        return self._objects.services.get(f"{target.namespace}/{owner.name}")

    def _deployments_of(self, target: Target, service: ServiceView | None) -> list[DeploymentView]:
        if target.subject.kind == DEPLOYMENTS.kind:
            named = self._objects.deployments.get(f"{target.namespace}/{target.subject.name}")
            return [named] if named else []
        if service is None:
            return []
        owned = self._predictors.get(service.meta.key, ())
        return stable_predictors(service, [d for d in owned if not d.meta.is_deleted])


def stable_predictors(service: ServiceView, labelled: Iterable[DeploymentView]) -> list[DeploymentView]:
    """The Deployments of an InferenceService that serve its stable predictor: one, unless something is odd.

    Names are never built to find a Deployment (KServe changed them twice), only to tell canaries and workers apart.
    """
    name = service.meta.name
    canaries = {f"{name}-{canary}-predictor" for canary in service.canary_names}
    found = [
        deployment
        for deployment in labelled
        if deployment.meta.labels.get(COMPONENT_LABEL) == "predictor"
        and _controls(service, deployment)
        and deployment.meta.name not in canaries
        and not deployment.meta.name.endswith("-predictor-worker")
    ]
    expected = f"{name}-{service.predictor_name}-predictor" if service.predictor_name else f"{name}-predictor"
    exact = [deployment for deployment in found if deployment.meta.name == expected]
    return exact or found


def _controls(service: ServiceView, deployment: DeploymentView) -> bool:
    owner = deployment.meta.owner
    return (
        owner is not None
        and owner.kind == INFERENCE_SERVICES.kind
        and owner.name == service.meta.name
        and (not owner.uid or owner.uid == service.meta.uid)
    )


def _missing(subject: Subject) -> Refusal:
    return Refusal(
        reason=RefusalReason.DEPLOYMENT_MISSING,
        message=f"{subject} has no Deployment (not created yet, or stopped); nothing to scale until it exists",
    )


def _ambiguous(subject: Subject, found: Iterable[DeploymentView]) -> Refusal:
    names = ", ".join(sorted(deployment.meta.name for deployment in found))
    return Refusal(
        reason=RefusalReason.AMBIGUOUS,
        message=f"{subject} has several predictor Deployments ({names}); enrol one of them by a ScaledService",
    )


def _refuse_shared(resolved: list[Target]) -> list[Target]:
    """Two enrolments of one Deployment would scale it against each other: both are refused."""
    by_deployment: dict[str, list[Target]] = defaultdict(list)
    for target in resolved:
        if target.deployment is not None:
            by_deployment[target.deployment].append(target)
    return [_shared(target, by_deployment.get(target.deployment or "", [])) for target in resolved]


def _shared(target: Target, holders: list[Target]) -> Target:
    if len(holders) < 2:
        return target
    names = " and ".join(sorted({_described(holder) for holder in holders}))
    message = f"Deployment {target.deployment} is enrolled {len(holders)} times, by {names}; keep one of them"
    return replace(target, refusals=(Refusal(reason=RefusalReason.ENROLLED_TWICE, message=message), *target.refusals))


def _described(target: Target) -> str:
    if target.is_user_written:
        return f"ScaledService {target.key}"
    return f"the annotation {ANNOTATION} of {target.subject}"


def _named(resolved: list[Target]) -> Iterable[Target]:
    """Keys are names; where kinds share one, a user's ScaledService has it, then the InferenceService."""
    taken: set[str] = set()
    order = {SCALED_SERVICES.kind: 0, INFERENCE_SERVICES.kind: 1}
    for target in sorted(resolved, key=lambda t: (not t.is_user_written, order.get(t.subject.kind, 2), t.key)):
        key = target.key
        while key in taken:
            key = f"{target.namespace}/{target.subject.kind.lower()}-{key.partition('/')[2]}"
        taken.add(key)
        yield replace(target, key=key)
