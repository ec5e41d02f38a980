"""Leader election on a Lease, as client-go does it: one replica writes, the others keep warm.

No clock but our own is trusted. A rival's lease is over when *we* have seen it unchanged for its duration; its
timestamps are only compared with themselves. We stop writing when the renew deadline has passed on our own clock,
counted from before the last renewal was sent, which is earlier than any rival can take over.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from autoscaler.errors import ApiFailure, Conflict, NamespaceTerminating, NotFound
from autoscaler.kube.resources import LEASES, Object
from metrics.clock import Clock

# client-go's defaults for controllers: another may take over after 15 s, we stop after 10 s, we try every 2 s.
LEASE_S = 15.0
RENEW_DEADLINE_S = 10.0
RETRY_S = 2.0
JITTER_RATIO = 0.2

log = logging.getLogger(__name__)


class LeaseClient(Protocol):
    """What an election needs of the API."""

    async def get(self, path: str) -> Object: ...

    async def create(self, path: str, body: Object) -> Object: ...

    async def patch(self, path: str, body: Object) -> Object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseName:
    """Which Lease, and who we are in it."""

    namespace: str
    name: str
    identity: str

    @property
    def path(self) -> str:
        """The Lease's path."""
        return LEASES.path(self.namespace, self.name)


class Election:
    """Takes part for as long as `run` runs. `on_change(True)` when we may write, `on_change(False)` when no more."""

    def __init__(self, client: LeaseClient, lease: LeaseName, clock: Clock, on_change: Callable[[bool], None]) -> None:
        self._client = client
        self._lease = lease
        self._clock = clock
        self._on_change = on_change
        self._jitter = random.Random(lease.identity)
        self._renewed_at_s: float | None = None  # None: not the leader
        self._seen: tuple[object, ...] | None = None
        self._seen_at_s = 0.0
        self._was_leading = False
        self._version: str | None = None  # of the lease as we wrote it last
        self._is_ending = False  # the namespace of the Lease
        self.holder = ""  # whom the Lease names

    def may_write(self) -> bool:
        """Asked before every single write: the lease is ours and its renewal is not overdue."""
        return self._renewed_at_s is not None and self._clock.now_s() - self._renewed_at_s < RENEW_DEADLINE_S

    async def run(self) -> None:
        """Acquire, renew, lose and acquire again, for ever."""
        while True:
            started_at_s = self._clock.now_s()
            try:
                is_ours = await self._acquire_or_renew()
            except NamespaceTerminating as exc:
                self._say_the_end(exc)
            except ApiFailure as exc:
                log.warning("lease %s: %s", self._lease.path, exc)
            else:
                self._renewed_at_s = started_at_s if is_ours else None
            self._tell()
            await self._pause()

    def _say_the_end(self, exc: NamespaceTerminating) -> None:
        """Once: whoever removes Warmtide knows what comes."""
        if not self._is_ending:
            self._is_ending = True
            log.info("lease %s: not made anew: %s", self._lease.path, exc.message)

    async def release(self) -> None:
        """Give the lease up so that another need not wait for it to run out."""
        if not self.may_write():
            return
        version = self._version
        self._renewed_at_s, self.holder, self._version = None, "", None
        self._tell()
        try:
            if version is None:
                lease = await self._client.get(self._lease.path)
                if _holder(lease) != self._lease.identity:
                    return
                version = _version(lease)
            # client-go's form of a released lease: nobody, for one second.
            await self._put(version, {"holderIdentity": "", "leaseDurationSeconds": 1})
        except ApiFailure as exc:
            log.warning("lease %s: not released, it runs out by itself: %s", self._lease.path, exc)

    async def _acquire_or_renew(self) -> bool:
        """One try. Whoever writes first wins: the patch names the version that was read, or that we wrote last.

        Without reading first where the lease is ours, as client-go does it: half the time that a busy server takes.
        """
        if self._version is not None and self.may_write():
            try:
                await self._put(self._version, self._renewed())
            except (Conflict, NotFound):
                self._version = None
            else:
                return True
        try:
            lease = await self._client.get(self._lease.path)
        except NotFound:
            return await self._create()
        holder = self.holder = _holder(lease)
        if holder != self._lease.identity and not self._has_run_out(lease):
            return False
        is_new = holder != self._lease.identity
        spec = self._renewed()
        if is_new:
            transitions = (lease.get("spec") or {}).get("leaseTransitions") or 0
            spec |= {
                "holderIdentity": self._lease.identity,
                "acquireTime": spec["renewTime"],
                "leaseTransitions": transitions + 1,
            }
        try:
            await self._put(_version(lease), spec)
        except Conflict:
            return False if is_new else await self._still_ours()
        self.holder = self._lease.identity
        return True

    async def _still_ours(self) -> bool:
        """Something else touched our lease (an operator's annotation, say): read who holds it."""
        self.holder = _holder(await self._client.get(self._lease.path))
        return self.holder == self._lease.identity and self.may_write()

    async def _create(self) -> bool:
        now = self._now()
        spec = {
            "holderIdentity": self._lease.identity,
            "leaseDurationSeconds": int(LEASE_S),
            "acquireTime": now,
            "renewTime": now,
            "leaseTransitions": 0,
        }
        metadata = {"name": self._lease.name, "namespace": self._lease.namespace}
        body = {"apiVersion": LEASES.api_version, "kind": LEASES.kind, "metadata": metadata, "spec": spec}
        try:
            await self._client.create(LEASES.path(self._lease.namespace), body)
        except Conflict:
            return False
        self.holder = self._lease.identity
        return True

    async def _put(self, version: str, spec: Object) -> None:
        body = {"metadata": {"resourceVersion": version}, "spec": spec}
        self._version = _version(await self._client.patch(self._lease.path, body))

    def _renewed(self) -> Object:
        return {"leaseDurationSeconds": int(LEASE_S), "renewTime": self._now()}

    def _has_run_out(self, lease: Object) -> bool:
        """Unchanged, as we saw it, for its whole duration; or released."""
        now_s = self._clock.now_s()
        spec = lease.get("spec") or {}
        record = (spec.get("holderIdentity"), spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at_s = record, now_s
        if not spec.get("holderIdentity"):
            return True
        duration_s = float(spec.get("leaseDurationSeconds") or LEASE_S)
        return now_s - self._seen_at_s >= duration_s

    def _tell(self) -> None:
        is_leading = self.may_write()
        if is_leading != self._was_leading:
            self._was_leading = is_leading
            log.info(
                "lease %s: %s", self._lease.path, "leading" if is_leading else f"held by {self.holder or 'nobody'}"
            )
            self._on_change(is_leading)

    async def _pause(self) -> None:
        """Until the next try, or until our own deadline passes where that is earlier."""
        wait_s = RETRY_S * (1.0 + self._jitter.uniform(0.0, JITTER_RATIO))
        if self._renewed_at_s is not None:
            left_s = self._renewed_at_s + RENEW_DEADLINE_S - self._clock.now_s()
            if 0 < left_s < wait_s:
                await self._clock.sleep(left_s)
                self._tell()
                return
        await self._clock.sleep(wait_s)

    def _now(self) -> str:
        """Kubernetes' MicroTime. For people and for others to see that it changes; we never compare it."""
        return datetime.fromtimestamp(self._clock.now_s(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _version(lease: Object) -> str:
    return str(lease["metadata"]["resourceVersion"])


def _holder(lease: Object) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")
