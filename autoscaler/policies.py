"""Which ScalingPolicy is in force for a service: the newest that could be read, else the last good one."""

from collections.abc import Mapping

from autoscaler.conditions import Problem
from autoscaler.enrol import Target
from autoscaler.errors import BadSpecError
from autoscaler.kube.views import PolicyView
from autoscaler.parse import parse_policy
from autoscaler.settings import ServicePolicy

INVALID_POLICY = "InvalidPolicy"
INVALID_ANNOTATION = "InvalidAnnotation"
INVALID_SCALED_SERVICE = "InvalidScaledService"
POLICY_NOT_FOUND = "PolicyNotFound"


class PolicyBook:
    """Policies by name: the service's own namespace first, then the controller's (cluster defaults)."""

    def __init__(self, policies: Mapping[str, PolicyView], home_namespace: str) -> None:
        self._policies = policies
        self._home = home_namespace
        self._read: dict[str, tuple[str, ServicePolicy | BadSpecError]] = {}  # by key: version and result

    def find(self, target: Target) -> tuple[ServicePolicy | None, Problem | None]:
        """The policy a service asks for, or what keeps it from being used."""
        if target.problem is not None:
            reason = INVALID_SCALED_SERVICE if target.is_user_written else INVALID_ANNOTATION
            return None, Problem(reason=reason, message=str(target.problem))
        for namespace in dict.fromkeys((target.namespace, self._home)):
            if (view := self._policies.get(f"{namespace}/{target.policy}")) is not None:
                return self._parsed(view)
        where = " or ".join(dict.fromkeys((target.namespace, self._home)))
        message = f"{target.subject}: there is no ScalingPolicy {target.policy} in namespace {where}; create it"
        return None, Problem(reason=POLICY_NOT_FOUND, message=message)

    def _parsed(self, view: PolicyView) -> tuple[ServicePolicy | None, Problem | None]:
        key, version = view.meta.key, f"{view.meta.uid}/{view.meta.version}"
        known = self._read.get(key)
        if known is None or known[0] != version:
            known = self._read[key] = (version, _parse(view))
        result = known[1]
        if isinstance(result, BadSpecError):
            return None, Problem(reason=INVALID_POLICY, message=str(result))
        return result, None


def _parse(view: PolicyView) -> ServicePolicy | BadSpecError:
    try:
        return parse_policy(view.document)
    except BadSpecError as exc:
        return exc
