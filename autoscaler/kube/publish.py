"""ScaledService objects and Events: what operators see of a service in the API."""

import logging
import zlib
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from autoscaler.enrol import MANAGED_BY, MANAGED_BY_LABEL, Target, is_ours
from autoscaler.errors import ApiFailure, Conflict, NamespaceTerminating, NotFound, NotLeadingError
from autoscaler.kube.resources import EVENTS, SCALED_SERVICES, Object
from autoscaler.kube.views import ScaledServiceView, scaled_service_view
from autoscaler.kube.writer import Writer
from autoscaler.status_changes import Notice, status_patch
from autoscaler.timestamps import rfc3339

# More Events than this of one service say nothing new; the API server's own spam filter starts at 25.
EVENTS_MAX = 10
EVENTS_WITHIN_S = 600.0
# policyRef of a ScaledService whose annotation holds no name: the condition says what it holds.
UNREADABLE_POLICY = "unreadable"

log = logging.getLogger(__name__)


class Publisher:
    """Writes ScaledServices, their status, and Events about the enrolled objects."""

    def __init__(self, writer: Writer, scaled_services: Mapping[str, ScaledServiceView], identity: str) -> None:
        self._writer = writer
        self._known = scaled_services
        self._identity = identity
        self._sent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=EVENTS_MAX))

    async def ensure(self, target: Target) -> ScaledServiceView:
        """The service's ScaledService: as it is, created, or brought in line with the annotation."""
        known = self._known.get(target.key)
        if known is None:
            return await self._create(target)
        wanted = _spec(target)
        if is_ours(known) and known.spec != wanted and target.problem is None:
            path = SCALED_SERVICES.path(target.namespace, known.meta.name)
            return scaled_service_view(await self._writer.patch(path, {"spec": wanted}))
        return known

    async def write(self, target: Target, before: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """Make the status so."""
        name = target.key.partition("/")[2]
        path = SCALED_SERVICES.path(target.namespace, name, "status")
        body = {"status": status_patch(before, status)}
        try:
            await self._writer.patch(path, body)
        except NotFound:
            await self._create(target)
            await self._writer.patch(path, body)

    async def remove(self, key: str) -> None:
        """A service is no longer enrolled: its ScaledService goes, unless a user wrote it."""
        known = self._known.get(key)
        self._sent.pop(key, None)
        if known is None or not is_ours(known):
            return
        try:
            await self._writer.delete(SCALED_SERVICES.path(known.meta.namespace, known.meta.name))
        except (ApiFailure, NotLeadingError) as exc:
            log.info("%s: its ScaledService stays: %s", key, exc)

    async def _create(self, target: Target) -> ScaledServiceView:
        path = SCALED_SERVICES.path(target.namespace)
        try:
            return scaled_service_view(await self._writer.create(path, scaled_service(target)))
        except Conflict:
            # It exists, and the watch has not told us yet.
            name = target.key.partition("/")[2]
            return scaled_service_view(await self._writer.get(SCALED_SERVICES.path(target.namespace, name)))

    async def send(self, target: Target, notice: Notice, now_s: float) -> None:
        """Send an Event, unless there were many; one that is lost is lost."""
        sent = self._sent[target.key]
        if len(sent) == EVENTS_MAX and now_s - sent[0] < EVENTS_WITHIN_S:
            return
        sent.append(now_s)
        try:
            await self._writer.create(EVENTS.path(target.namespace), event(target, notice, self._identity, now_s))
        except NamespaceTerminating:
            return
        except ApiFailure as exc:
            log.info("%s: Event %s not sent: %s", target.key, notice.reason, exc)


def scaled_service(target: Target) -> Object:
    """The object that the controller creates for an annotated service; it goes when the service goes."""
    subject = target.subject
    namespace, _, name = target.key.partition("/")
    return {
        "apiVersion": SCALED_SERVICES.api_version,
        "kind": SCALED_SERVICES.kind,
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {MANAGED_BY_LABEL: MANAGED_BY},
            "ownerReferences": [
                {
                    "apiVersion": subject.api_version,
                    "kind": subject.kind,
                    "name": subject.name,
                    "uid": subject.uid,
                    "controller": False,  # the enrolled object's own controller owns nothing of ours
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": _spec(target),
    }


def event(target: Target, notice: Notice, identity: str, now_s: float) -> Object:
    """An Event about the enrolled object, where `kubectl describe` shows it."""
    subject = target.subject
    at = rfc3339(now_s)
    name = f"{subject.name[:200]}.{int(now_s * 1e6):x}{zlib.crc32(notice.reason.encode()):08x}"
    return {
        "apiVersion": EVENTS.api_version,
        "kind": EVENTS.kind,
        "metadata": {
            "name": name,
            "namespace": subject.namespace,
        },
        "involvedObject": {
            "apiVersion": subject.api_version,
            "kind": subject.kind,
            "namespace": subject.namespace,
            "name": subject.name,
            "uid": subject.uid,
        },
        "type": notice.type,
        "reason": notice.reason,
        "message": notice.message,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "source": {"component": MANAGED_BY},
        "reportingComponent": "warmtide.dev/controller",
        "reportingInstance": identity,
    }


def _spec(target: Target) -> dict[str, Any]:
    subject = target.subject
    return {
        "targetRef": {"apiVersion": subject.api_version, "kind": subject.kind, "name": subject.name},
        "policyRef": {"name": target.policy or UNREADABLE_POLICY},
    }
