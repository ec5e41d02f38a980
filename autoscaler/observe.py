"""What one pass sees: pods, samples, bounds and free GPUs become the `Observation` that `decide` is given."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from autoscaler.caching.sight import ModelSight
from autoscaler.enrol import Target
from autoscaler.kube.views import WARM_LABEL_PREFIX, DeploymentView, NodeView, PodView
from autoscaler.policy.spec import Mode
from autoscaler.policy.types import Decision, Landing, Observation, PodPhase, PodSeen, Reason, Step, Tier
from autoscaler.schedule import floor_at
from autoscaler.settings import ServicePolicy
from autoscaler.upstream import NOBODY_ASKED, UpstreamReading
from metrics.sample import PodSignals

# KServe's webhook puts this on pods whose weights a LocalModelCache has brought to the node.
_LOCAL_MODEL_LABEL = "internal.serving.kserve.io/localmodel"
# Older knowledge of pods shrinks nothing: a scale-in picks a victim, and the list it picks from must be true.
STALE_PODS_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything about one service at one time."""

    target: Target
    policy: ServicePolicy
    deployment: DeploymentView
    pods: Sequence[PodView]
    nodes: Mapping[str, NodeView]
    signals: Callable[[str], PodSignals | None]  # by pod uid
    free_replicas: int | None = None  # more pods that would find GPUs
    incumbent_replicas: int | None = None
    history: tuple[tuple[float, float], ...] = ()
    upstream: UpstreamReading = NOBODY_ASKED
    server_ahead_s: float = 0.0  # of the clock that stamped the pods, to ours
    model: ModelSight | None = None  # None: nobody keeps its weights on nodes
    landing: Landing | None = None  # of the next replica, settled
    budget_replicas: int | None = None  # the most that the namespace's quota allows


def observation(scene: Scene, *, now_s: float) -> Observation:
    """The scene as the policy may know it."""
    target, deployment = scene.target, scene.deployment
    floor, _ = floor_at(scene.policy.schedules, now_s)
    warm_label = model_label(target)
    return Observation(
        service=target.key,
        replicas=deployment.replicas,
        version=deployment.meta.version,
        pods=tuple(_pod_seen(pod, scene, warm_label) for pod in scene.pods if not pod.is_over),
        native_min=target.native_min,
        native_max=target.native_max,
        schedule_floor=floor,
        upstream_waiting_requests=scene.upstream.waiting_requests,
        upstream_observed_at_s=scene.upstream.observed_at_s,
        upstream_problem=scene.upstream.problem,
        schedulable_replicas=scene.free_replicas,
        incumbent_replicas=scene.incumbent_replicas if scene.policy.spec.mode is not Mode.DIRECT else None,
        history=scene.history,
        budget_replicas=scene.budget_replicas,
        landing=scene.landing,
        last_warm_copies=scene.model.last_copies(scene.pods) if scene.model else frozenset(),
    )


def model_label(target: Target) -> str | None:
    """The node label that says that this service's weights are on the node's disk."""
    if not target.fetched_uri:
        return None
    return WARM_LABEL_PREFIX + hashlib.sha256(target.fetched_uri.encode()).hexdigest()[:16]


def hold_when_stale(decision: Decision, *, stale_for_s: float) -> Decision:
    """Pods that the API server has not confirmed for long are no ground to shrink."""
    if decision.replicas >= decision.current_replicas or stale_for_s <= STALE_PODS_S:
        return decision
    detail = f"pods were last seen {stale_for_s:.0f} s ago: the API server does not answer"
    step = Step(replicas=decision.current_replicas, reason=Reason.NO_FRESH_DATA, detail=detail)
    return replace(
        decision,
        replicas=decision.current_replicas,
        reason=Reason.NO_FRESH_DATA,
        steps=(*decision.steps, step),
        victim=None,
    )


def phase_of(pod: PodView) -> PodPhase:
    """Where a pod is on its way."""
    if pod.is_terminating:
        return PodPhase.TERMINATING
    if pod.is_gated:
        return PodPhase.GATED
    if pod.is_unschedulable:
        return PodPhase.UNSCHEDULABLE
    return PodPhase.STARTING if pod.ready_at_s is None else PodPhase.READY


def _pod_seen(pod: PodView, scene: Scene, warm_label: str | None) -> PodSeen:
    node = scene.nodes.get(pod.node) if pod.node else None
    signals = None if pod.is_terminating else scene.signals(pod.uid)
    return PodSeen(
        name=pod.name,
        phase=phase_of(pod),
        created_at_s=pod.created_at_s - scene.server_ahead_s,
        ready_at_s=None if pod.ready_at_s is None else pod.ready_at_s - scene.server_ahead_s,
        node=pod.node,
        node_class=node.node_class if node else "",
        tier=_tier(pod, node, signals, scene.model, warm_label),
        signals=signals,
    )


def _tier(
    pod: PodView, node: NodeView | None, signals: PodSignals | None, model: ModelSight | None, warm_label: str | None
) -> Tier:
    if signals is not None and signals.is_awake is False:
        return Tier.HOT
    if _LOCAL_MODEL_LABEL in pod.labels:
        return Tier.WARM
    if model is not None:
        return model.tier_on(pod.node, pod.created_at_s)
    # Somebody else's label: it does not say since when.
    return Tier.WARM if node is not None and warm_label is not None and warm_label in node.labels else Tier.COLD
