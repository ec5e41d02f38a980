"""The shape of `ScaledService.status`: written by `autoscaler.report`, read by `autoscaler.explain`, in the CRD."""

from typing_extensions import TypedDict


class StepStatus(TypedDict):
    """The number after a step of the decision, and why."""

    replicas: int
    """The number after this step."""
    reason: str
    """Name of the reason; `warmtide why` has a sentence for each."""
    detail: str
    """Figures behind it."""


class LensStatus(TypedDict, total=False):
    """What one signal alone would ask for."""

    name: str
    """queue, kv_cache, concurrency, tokens, ttft or itl."""
    reason: str
    """Name of the reason when this lens binds."""
    replicas: int
    """What it asks for; absent when it could not be read."""
    value: float
    """What was measured."""
    target: float
    """What it is held against."""
    unit: str
    """Unit of both."""
    note: str
    """Why it is silent, where it is."""


class DecisionStatus(TypedDict, total=False):
    """The last decision, with every step on the way."""

    time: str
    """When it was taken."""
    current: int
    """Replicas at that time."""
    replicas: int
    """Replicas decided."""
    reason: str
    """Reason of the step that settled the number."""
    bindingLens: str
    """The lens that asked for most."""
    steps: list[StepStatus]
    """Every step, in order."""
    lenses: list[LensStatus]
    """Every lens."""
    replicasMin: int
    """Lower bound in force."""
    replicasMax: int
    """Upper bound in force."""
    victim: str
    """Pod that goes first when shrinking."""
    revisitAt: str
    """When time alone could change the answer."""
    wouldChange: list[str]
    """What would change the answer."""


class ReplicasStatus(TypedDict, total=False):
    """Replicas by what they are worth now."""

    current: int
    """spec.replicas of the workload."""
    desired: int
    """What Warmtide wants."""
    ready: int
    """Serving."""
    starting: int
    """On their way and on time: they count."""
    asleep: int
    """Asleep in place, seconds from serving."""
    overdue: int
    """Later than the P95 lead time, unschedulable or gated: they do not count."""
    terminating: int
    """On their way out."""
    blind: int
    """Ready, but without a fresh sample."""
    incumbent: int
    """What whoever scales today wants (mode advise)."""


class ForecastStatus(TypedDict, total=False):
    """Demand expected when a replica asked for now would be ready."""

    active: bool
    """Whether it may raise the number: it must beat the naive forecast on this service's own history."""
    horizonSeconds: float
    """How far ahead."""
    demandNowTokensPerSecond: float
    """Demand now."""
    demandP50TokensPerSecond: float
    """Expected demand."""
    demandP90TokensPerSecond: float
    """Demand that one time in ten is exceeded."""
    replicas: int
    """What it asks for."""
    skill: float
    """Its error divided by the naive forecast's; below 1 is better."""
    method: str
    """How it was made."""
    note: str
    """Why it is off, where it is."""


class LeadTimeStatus(TypedDict):
    """Measured time from asking for a replica to it being ready."""

    tier: str
    """hot, warm or cold."""
    nodeClass: str
    """Class of node."""
    p50Seconds: float
    """Median."""
    p80Seconds: float
    """80 % are faster."""
    p95Seconds: float
    """95 % are faster."""
    starts: int
    """How many were measured; 0: the policy's prior."""


class ModelStatus(TypedDict, total=False):
    """Where the model's weights lie."""

    cache: str
    """ModelCache that keeps them; absent: KServe's, or somebody else's."""
    key: str
    """Folder of the model on nodes."""
    warmNodes: int
    """Nodes that hold them and can start pods."""
    nextTier: str
    """What the next replica's start-up is expected to be, wherever it may land: warm or cold."""
    nextNodeClass: str
    """Class of node it may land on; empty: of several."""


class CapacityStatus(TypedDict, total=False):
    """What one replica serves at the objective."""

    tokensPerSecond: float
    """Prompt and generated tokens per second."""
    regime: str
    """What limits it."""
    windows: int
    """How many windows it was learned from."""


class FreshnessStatus(TypedDict, total=False):
    """How well Warmtide sees."""

    podsScraped: int
    """Pods with a fresh sample."""
    podsBlind: int
    """Ready pods without."""
    oldestSampleAgeSeconds: float
    """Age of the oldest sample in use."""
    scrapeFailures: dict[str, int]
    """Pods whose last scrape failed, by kind of failure."""
    historyProblem: str
    """Why Prometheus could not be asked for demand of the past; absent: nothing is wrong."""
    upstreamWaitingRequests: float
    """Requests that wait before the pods; absent: unknown, or the policy has no upstream.query."""
    upstreamAgeSeconds: float
    """Age of the last answer to upstream.query."""
    upstreamProblem: str
    """Why upstream.query has no answer now; absent: it has, or there is none."""


class ConditionStatus(TypedDict):
    """A Kubernetes condition."""

    type: str
    """Name of the condition."""
    status: str
    """True, False or Unknown."""
    reason: str
    """Name of the reason."""
    message: str
    """For people."""
    lastTransitionTime: str
    """When status last changed."""
    observedGeneration: int
    """Generation of the policy this is about."""


class ChangeStatus(TypedDict):
    """A decision that changed the number."""

    time: str
    """When."""
    before: int
    """Replicas before."""
    after: int
    """Replicas after."""
    reason: str
    """Why."""
    message: str
    """The same for people."""


class SummaryStatus(TypedDict, total=False):
    """Texts for the columns of kubectl get."""

    forecast: str
    """Replicas the forecast asks for."""
    lead: str
    """P80 time to the next ready replica."""


class ScaledServiceStatus(TypedDict, total=False):
    """What Warmtide sees, decided and why."""

    mode: str
    """observe, advise or direct."""
    policy: str
    """Namespace and name of the ScalingPolicy in force."""
    policyGeneration: int
    """Its generation; older than the object's when the newest could not be used."""
    target: str
    """The workload that is scaled."""
    observedGeneration: int
    """Generation of this object's spec that this status is about."""
    time: str
    """When this status was written."""
    reason: str
    """Why the number is what it is, in one name."""
    message: str
    """The same in one line."""
    summary: SummaryStatus
    """Texts for the columns of kubectl get."""
    replicas: ReplicasStatus
    """Replicas by what they are worth now."""
    decision: DecisionStatus
    """The last decision, with every step on the way."""
    forecast: ForecastStatus
    """Demand expected when a replica asked for now would be ready."""
    leadTimes: list[LeadTimeStatus]
    """Measured start-up times."""
    model: ModelStatus
    """Where the model's weights lie; absent: nobody keeps them on nodes."""
    capacity: CapacityStatus
    """What one replica serves at the objective."""
    freshness: FreshnessStatus
    """How well Warmtide sees."""
    conditions: list[ConditionStatus]
    """PolicyValid, Enrolled, NotContested, DataFresh, ScalingActive."""
    recentChanges: list[ChangeStatus]
    """The last decisions that changed the number, newest first."""
    learned: str
    """What was learned, for the next controller: opaque."""
    learnedTime: str
    """When learned was written."""
