"""Why Warmtide keeps its hands off a workload: we fight nobody, and we say who is in the way and what to do."""

from dataclasses import dataclass
from enum import StrEnum

from autoscaler.policy.spec import Mode


class RefusalReason(StrEnum):
    """Stable names: conditions, Events and metrics use them."""

    HPA_CONFLICT = "HPAConflict"
    SCALED_OBJECT_CONFLICT = "ScaledObjectConflict"
    MANAGED_BY_LLMD = "ManagedByLLMD"
    STOPPED = "Stopped"
    MULTI_NODE = "MultiNode"
    UNSUPPORTED_KSERVE = "UnsupportedKServe"
    NOT_EXTERNAL = "AutoscalerClassNotExternal"
    KNATIVE_MODE = "KnativeMode"
    MODEL_MESH = "ModelMesh"
    ENROLLED_TWICE = "EnrolledTwice"
    AMBIGUOUS = "AmbiguousDeployment"
    CONTESTED = "Contested"
    DEPLOYMENT_MISSING = "DeploymentMissing"


# Another scaler is a conflict only for those who write; in advise mode it is the incumbent we compare with.
_ONLY_WHEN_WRITING = frozenset(
    {
        RefusalReason.HPA_CONFLICT,
        RefusalReason.SCALED_OBJECT_CONFLICT,
        RefusalReason.MANAGED_BY_LLMD,
        RefusalReason.UNSUPPORTED_KSERVE,
        RefusalReason.NOT_EXTERNAL,
        RefusalReason.CONTESTED,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason to leave a workload alone. The message names object, field and value, and what to do."""

    reason: RefusalReason
    message: str

    def holds_in(self, mode: Mode) -> bool:
        """Whether it matters in this mode."""
        return mode is Mode.DIRECT or self.reason not in _ONLY_WHEN_WRITING
