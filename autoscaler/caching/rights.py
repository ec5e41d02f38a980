"""What the controller may do beyond its role: label nodes, make volumes. Both are opt-in components of the manifests.

Asked of the API server's own authorizer before anything is tried, and again now and then: a component that is applied
later counts without a restart.
"""

from collections.abc import Mapping

from autoscaler.conditions import Condition
from autoscaler.errors import ApiFailure
from autoscaler.kube.writer import Writer
from metrics.clock import Clock

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
ASKED_AGAIN_S = 600.0


class Rights:
    """Whether nodes may be labelled and volumes made."""

    def __init__(self, writer: Writer, clock: Clock) -> None:
        self._writer = writer
        self._clock = clock
        self._until_s = 0.0
        self.labels = False
        self.volumes = False

    def start_over(self) -> None:
        """Ask again."""
        self._until_s = 0.0

    def deny_labels(self) -> None:
        """The API server refused."""
        self.labels = False

    def condition(self) -> Condition:
        """For the status of a ModelCache: where nobody labels nodes, nobody should look for labels."""
        if self.labels:
            words = "nodes that hold the model have its label"
            return Condition(type="Labelled", status="True", reason="LabelsOn", message=words)
        words = "nodes are not labelled: the controller may not patch nodes (manifests/components/model-labels)"
        return Condition(type="Labelled", status="False", reason="LabelsOff", message=words)

    async def learn(self) -> None:
        """Ask, unless it was asked a while ago."""
        if self._clock.now_s() < self._until_s:
            return
        self._until_s = self._clock.now_s() + ASKED_AGAIN_S
        self.labels = await self._may({"verb": "patch", "resource": "nodes"})
        self.volumes = await self._may({"verb": "create", "resource": "persistentvolumes"})

    async def _may(self, attributes: Mapping[str, str]) -> bool:
        body = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": dict(attributes)},
        }
        try:
            answer = await self._writer.create(REVIEWS, body)
        except ApiFailure:
            return False  # asked again in a while
        return bool((answer.get("status") or {}).get("allowed"))
