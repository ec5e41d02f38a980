"""The kubelet of all stand-in nodes: pods from bound to serving, and their end.

A pod's life is one task: image, weights, container, readiness, restarts with back-off. A deletion
ends it: the container is told to stop (SIGTERM), waited for up to the grace period, killed if need
be; then the pod object goes. A pod whose node is gone ends at once, as after a machine's failure.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from autoscaler.policy.types import Tier
from metrics.clock import Clock
from simulations.cluster.api import NODES, PODS, ApiError, Object
from simulations.cluster.apiserver.metadata import timestamp
from simulations.cluster.workloads.addresses import Address, LoopbackAddresses
from simulations.cluster.workloads.errors import ContainerError
from simulations.cluster.workloads.mirror import Key, Mirror, is_going, key_of
from simulations.cluster.workloads.pods import is_over, node_of
from simulations.cluster.workloads.podstatus import Progress, Stage, status_at
from simulations.cluster.workloads.reconciler import Reconciler
from simulations.cluster.workloads.runtime import Container, ContainerRuntime
from simulations.cluster.workloads.startup import StartupModel, StartupPhases, images_of, model_of
from simulations.cluster.workloads.weights import WeightStore

log = logging.getLogger(__name__)

METRICS_PORT = "prometheus.kserve.io/port"
_DEFAULT_PORT = 8080  # of KServe's runtimes
_FIRST_RESTART_S, _LONGEST_RESTART_S = 10.0, 300.0  # the real kubelet's crash back-off
_WRITE_AGAIN_S = 1.0
_KILL_AFTER_S = 2.0  # the real kubelet adds as much to the grace period before it gives up on SIGTERM


class _Life:
    """One pod on its way; `doomed` is set when it has to go."""

    def __init__(self, pod: Object, address: Address) -> None:
        self.key = key_of(pod)
        self.uid: str = pod["metadata"]["uid"]
        self.address = address
        self.doomed = asyncio.Event()
        self.grace_s = 0.0
        self.container: Container | None = None
        self.restarts = 0

    def doom(self, grace_s: float) -> None:
        """End it; a later, shorter grace period counts, a longer one does not."""
        self.grace_s = min(self.grace_s, grace_s) if self.doomed.is_set() else grace_s
        self.doomed.set()


class Kubelet:
    """Runs the pods bound to the given nodes."""

    def __init__(
        self,
        mirror: Mirror,
        nodes: Iterable[str],
        runtime: ContainerRuntime,
        startup: StartupModel,
        clock: Clock,
        weights: WeightStore | None = None,
    ) -> None:
        self._mirror = mirror
        self._nodes = frozenset(nodes)
        self._runtime = runtime
        self._startup = startup
        self._store = weights
        self._clock = clock
        self.addresses = LoopbackAddresses()
        self.reconciler = Reconciler("pod", self._reconcile, clock)
        self._lives: dict[Key, _Life] = {}
        self._images: dict[str, set[str]] = defaultdict(set)  # by node
        self._weights: dict[str, set[str]] = defaultdict(set)
        self._group: asyncio.TaskGroup | None = None
        mirror.listen(PODS, lambda before, after: self.reconciler.wake(key_of(after or before or {})))
        mirror.listen(NODES, self._wake_pods_of)

    def _wake_pods_of(self, before: Object | None, after: Object | None) -> None:
        if before is not None and after is None:
            for pod in self._mirror.find(PODS, "node", before["metadata"]["name"]):
                self.reconciler.wake(key_of(pod))

    async def run(self) -> None:
        """Keep pods, for ever. Containers end with it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self.reconciler.run()

    def holds_weights(self, node: str, pod: Object) -> bool:
        """Whether the pod's weights have been on that node."""
        return model_of(pod) in self._weights[node]

    async def _reconcile(self, key: Key) -> None:
        pod, life = self._mirror.get(PODS, key), self._lives.get(key)
        if life is not None and (pod is None or pod["metadata"]["uid"] != life.uid):
            life.doom(0.0)  # removed by force: the container must not outlive it
            return
        if pod is None or not self._is_mine(pod):
            return
        is_lost = bool(node_of(pod)) and self._mirror.get(NODES, ("", node_of(pod))) is None
        if is_lost or is_going(pod):
            grace_s = 0.0 if is_lost else float(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
            await self._end(pod, life, grace_s)
        elif life is None and node_of(pod) and not is_over(pod) and self._group is not None:
            life = _Life(pod, self.addresses.take(port_of(pod)))
            self._lives[key] = life
            self._group.create_task(self._live(pod, life))

    def _is_mine(self, pod: Object) -> bool:
        """Bound to one of these nodes; or bound nowhere and going, which no other kubelet will see to."""
        node = node_of(pod)
        return node in self._nodes if node else is_going(pod)

    async def _end(self, pod: Object, life: _Life | None, grace_s: float) -> None:
        """Stop what runs; once nothing does, remove the object."""
        if life is not None:
            life.doom(grace_s)
        else:
            await self._mirror.delete(PODS, pod, 0)

    async def _live(self, pod: Object, life: _Life) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self._keep_running(pod, life))
                await life.doomed.wait()
                work.cancel()
            await self._stop(life)
        finally:
            if life.container is not None and not life.container.exited.is_set():
                await life.container.kill()
            self.addresses.give_back(life.address)
            del self._lives[life.key]
            self.reconciler.wake(life.key)

    async def _keep_running(self, pod: Object, life: _Life) -> None:
        phases = self._phases(pod)
        if not self.addresses.has_own_ips:
            annotations = {METRICS_PORT: str(life.address.port)}
            await self._write(life, {"metadata": {"annotations": annotations}}, "")
        await self._fetch(pod, life, phases)
        while True:
            try:
                await self._run_once(pod, life, phases)
                message = "the container exited"
            except ContainerError as error:
                message = str(error)
            life.restarts += 1
            log.warning("%s/%s: restart %d: %s", *life.key, life.restarts, message)
            await self._show(life, Stage.BACK_OFF, message)
            await self._clock.sleep(min(_FIRST_RESTART_S * 2.0 ** min(life.restarts - 1, 16), _LONGEST_RESTART_S))

    def _phases(self, pod: Object) -> StartupPhases:
        node = node_of(pod)
        has_image = images_of(pod) <= self._images[node]
        tier = Tier.WARM if self.holds_weights(node, pod) else Tier.COLD
        return self._startup.phases(pod, node=node, has_image=has_image, tier=tier)

    async def _fetch(self, pod: Object, life: _Life, phases: StartupPhases) -> None:
        """Bring image and weights to the node."""
        if phases.image_pull_s > 0:
            await self._show(life, Stage.CREATING)
            await self._clock.sleep(phases.image_pull_s)
        self._images[node_of(pod)] |= images_of(pod)
        if self._store is not None and self._store.serves(pod):
            await self._show(life, Stage.INITIALIZING)
            await self._store.bring(pod, node_of(pod))
        elif phases.weights_s > 0:
            await self._show(life, Stage.INITIALIZING)
            await self._clock.sleep(phases.weights_s)
        self._weights[node_of(pod)].add(model_of(pod))

    async def _run_once(self, pod: Object, life: _Life, phases: StartupPhases) -> None:
        """One run of the container, until it exits."""
        await self._show(life, Stage.RUNNING)
        if phases.load_s > 0:
            await self._clock.sleep(phases.load_s)  # the real server opens its port only once it is loaded
        life.container = await self._runtime.start(pod, ip=life.address.ip, port=life.address.port)
        await life.container.wait_ready()
        await self._show(life, Stage.READY)
        await life.container.exited.wait()

    async def _stop(self, life: _Life) -> None:
        if life.container is None or life.container.exited.is_set():
            return
        try:
            async with asyncio.timeout(life.grace_s + _KILL_AFTER_S):
                await life.container.terminate(life.grace_s)
        except TimeoutError:
            log.warning("%s/%s: still there after %s s of grace, killed", *life.key, life.grace_s)

    async def _show(self, life: _Life, stage: Stage, message: str = "") -> None:
        pod = self._mirror.get(PODS, life.key)
        if pod is None or pod["metadata"]["uid"] != life.uid:
            return
        progress = Progress(stage=stage, ip=life.address.ip, restarts=life.restarts, message=message)
        await self._write(life, {"status": status_at(pod, progress, timestamp(self._clock.now_s()))}, "status")

    async def _write(self, life: _Life, patch: dict[str, Any], subresource: str) -> None:
        """Patch the pod; an API that is away for a while does not stop the container."""
        while True:
            try:
                await self._mirror.patch(PODS, life.key, patch, subresource)
            except (ApiError, OSError, TimeoutError) as error:
                if isinstance(error, ApiError) and error.code == 404:
                    return
                log.warning("%s/%s: status not written: %s", *life.key, error)
                await self._clock.sleep(_WRITE_AGAIN_S)
            else:
                return


def port_of(pod: Object) -> int:
    """The port the pod's server wants: the first it declares."""
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            return int(port["containerPort"])
    return _DEFAULT_PORT
