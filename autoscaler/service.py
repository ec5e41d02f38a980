"""What the controller remembers of one service between passes."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autoscaler.caching.landing import SettledLanding
from autoscaler.caching.sight import ModelSight
from autoscaler.conditions import Problem
from autoscaler.kube.views import DeploymentView
from autoscaler.policy.memory import Memory
from autoscaler.policy.types import Decision
from autoscaler.refusal import Refusal, RefusalReason
from autoscaler.settings import ServicePolicy
from autoscaler.status_changes import Notice
from autoscaler.upstream import NOBODY_ASKED, UpstreamReading

# Three of our writes undone within ten minutes is somebody who scales, too; one is an operator's kubectl.
REVERTS_MAX = 3
REVERTS_WITHIN_S = 600.0
# What an API server that is away for long has missed: the newest say how it stands.
NOTICES_MAX = 10
# How long we keep off before we try again.
CONTESTED_HOLD_S = 600.0


@dataclass(frozen=True, slots=True)
class Scaled:
    """Our last write to the scale subresource."""

    replicas: int
    version: str


@dataclass(slots=True)
class Contest:
    """Whether somebody undoes what we write."""

    reverts_at_s: deque[float] = field(default_factory=lambda: deque(maxlen=REVERTS_MAX))
    held_until_s: float | None = None
    message: str = ""

    def revert(self, now_s: float) -> bool:
        """Note one of our writes undone; True when that makes it a fight."""
        self.reverts_at_s.append(now_s)
        is_fight = len(self.reverts_at_s) == REVERTS_MAX and now_s - self.reverts_at_s[0] <= REVERTS_WITHIN_S
        if is_fight:
            self.held_until_s = now_s + CONTESTED_HOLD_S
        return is_fight

    def refusal(self, now_s: float) -> Refusal | None:
        """While we keep off; afterwards one more revert is a fight again."""
        if self.held_until_s is None:
            return None
        if now_s >= self.held_until_s:
            self.held_until_s = None
            return None
        return Refusal(reason=RefusalReason.CONTESTED, message=self.message)


@dataclass(slots=True)
class Service:
    """State of one enrolled service in the leader; a new leader starts from the status in the API."""

    key: str
    policy: ServicePolicy | None = None  # in force
    policy_problem: Problem | None = None
    scale_problem: Problem | None = None
    memory: Memory | None = None
    status: Mapping[str, Any] = field(default_factory=dict)  # as it should stand in the API
    written: Mapping[str, Any] = field(default_factory=dict)  # as we believe it stands there
    notices: deque[Notice] = field(default_factory=lambda: deque(maxlen=NOTICES_MAX))  # Events that are not yet sent
    contest: Contest = field(default_factory=Contest)
    upstream: UpstreamReading = NOBODY_ASKED  # as the last pass saw it
    model: ModelSight | None = None  # likewise
    landing: SettledLanding = field(default_factory=SettledLanding)
    failures: int = 0
    shown: object = None  # what the last rendered status said, in short
    shown_at_s: float = 0.0
    decision: Decision | None = None  # the last one
    refusal: Refusal | None = None  # the one in force
    _scaled: Scaled | None = None
    _reread: DeploymentView | None = None

    def current(self, cached: DeploymentView) -> DeploymentView:
        """The newest of what we know of the Deployment: the watch lags behind our own reads and writes."""
        newest = cached
        if self._reread is not None:
            if is_newer(self._reread.meta.version, cached.meta.version):
                newest = self._reread
            else:
                self._reread = None
        scaled = self._scaled
        if scaled is not None and is_newer(scaled.version, newest.meta.version):
            meta = replace(newest.meta, version=scaled.version)
            return replace(newest, replicas=scaled.replicas, meta=meta)
        return newest

    def was_reverted(self, deployment: DeploymentView) -> bool:
        """Whether the Deployment, seen after our last write, no longer has the number we wrote. Said once per write."""
        scaled = self._scaled
        if scaled is None or is_newer(scaled.version, deployment.meta.version):
            return False
        if deployment.replicas == scaled.replicas:
            return False
        self._scaled = None
        return True

    def note_scaled(self, replicas: int, version: str) -> None:
        """We wrote this number, and the API gave it this version."""
        self._scaled = Scaled(replicas, version)
        self._reread = None

    def note_reread(self, deployment: DeploymentView) -> None:
        """We read the Deployment ourselves, for what we had was old."""
        self._reread = deployment


def is_newer(version: str, than: str) -> bool:
    """Resource versions grow (guaranteed since Kubernetes 1.35, true before); of others the watch is believed."""
    return version.isdigit() and than.isdigit() and int(version) > int(than)
