"""The loop: each enrolled service gets passes, woken by events or by time, one at a time per service.

Level-based: an event says only that a pass is due; the pass reads everything anew. A service that fails backs off by
itself and holds up no other. Only the leader decides and writes; the others keep their windows warm.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterator, Sequence

from autoscaler.conditions import is_bad
from autoscaler.enrol import Target, is_ours
from autoscaler.errors import ApiFailure, RetryLaterError
from autoscaler.instruments import Instruments, NoInstruments
from autoscaler.kube.budget import backoff_s
from autoscaler.kube.target import Findings, KubeTarget, World, note, publish, tell
from autoscaler.learned import unpack
from autoscaler.policies import PolicyBook
from autoscaler.policy.errors import BadMemoryError
from autoscaler.policy.memory import Memory
from autoscaler.policy.recall import load
from autoscaler.policy.types import Decision
from autoscaler.queue import Wake, WakeQueue
from autoscaler.reconcile import Pass, reconcile
from autoscaler.refusal import Refusal
from autoscaler.rhythm import PASS_PERIOD_MAX_S, pass_period_s
from autoscaler.schedule import floor_at
from autoscaler.service import Service
from autoscaler.settings import ServicePolicy
from autoscaler.status import ConditionStatus
from autoscaler.upstream import NOBODY_ASKED

# Passes under way at once: each waits for at most a few requests.
PASSES_MAX = 16
# A pass that hangs must free its place; the slowest request is cut at 10 s.
PASS_DEADLINE_S = 30.0
RETRY_FIRST_S = 1.0
RETRY_CAP_S = 60.0
# A refused service is looked at again; what it is refused for wakes it earlier when it goes.
REFUSED_PERIOD_S = 30.0
# Statuses written at once at shutdown: a server that takes half a second for each still hears hundreds in the seconds
# there are, and the first writes go out while the others are still being rendered.
LAST_WORDS_AT_ONCE = 64
# Not a service: compares the table of enrolled services with what is known.
SWEEP = ""

log = logging.getLogger(__name__)


class Controller:
    """Runs passes over all enrolled services."""

    def __init__(
        self, world: World, policies: PolicyBook, queue: WakeQueue, instruments: Instruments | None = None
    ) -> None:
        self._world = world
        self._policies = policies
        self._queue = queue
        self._instruments: Instruments = instruments or NoInstruments()
        self._services: dict[str, Service] = {}
        self._places = asyncio.Semaphore(PASSES_MAX)
        self._jitter = random.Random(0)
        self._is_leading = False

    def lead(self, is_leading: bool) -> None:
        """Leadership came or went. State of an earlier term is old: a new term starts from the API."""
        self._is_leading = is_leading
        self._services.clear()
        self._world.reports.clear()
        for key in self._world.cluster.targets():
            self._queue.wake(key)

    def decision_of(self, key: str) -> Decision | None:
        """The last decision over a service."""
        service = self._services.get(key)
        return service.decision if service is not None else None

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """(service, condition, reason) of what a human should look at, as statuses tell it."""
        for service in list(self._services.values()):  # whoever asks may be another thread
            conditions: Sequence[ConditionStatus] = service.status.get("conditions") or ()
            for condition in conditions:
                if is_bad(condition):
                    yield service.key, condition["type"], condition["reason"]

    async def run(self) -> None:
        """Pass after pass, until the queue is closed; then the passes under way end."""
        self._queue.wake(SWEEP)
        async with asyncio.TaskGroup() as group:
            reporting = group.create_task(self._world.reports.run())
            async with asyncio.TaskGroup() as passes:
                while (wake := await self._queue.take()) is not None:
                    await self._places.acquire()
                    passes.create_task(self._turn(wake))
            reporting.cancel()

    async def last_words(self, within_s: float) -> None:
        """Write what was learned, what was written longest ago first; what is not written in time is learned again."""
        waiting = deque(sorted((s for s in self._services.values() if s.memory is not None), key=_learned_at))
        unwritten = {service.key for service in waiting}

        async def write() -> None:
            while waiting:
                service = waiting.popleft()
                await self._last_word(service)
                unwritten.discard(service.key)

        try:
            async with asyncio.timeout(within_s), asyncio.TaskGroup() as group:
                for _ in range(min(LAST_WORDS_AT_ONCE, len(waiting))):
                    group.create_task(write())
        except TimeoutError:
            log.warning("stopping: %d statuses were not written within %.1f s", len(unwritten), within_s)

    async def _turn(self, wake: Wake) -> None:
        """One key's turn: whatever happens, the key gets another, and no other key notices."""
        key = wake.key
        try:
            async with asyncio.timeout(PASS_DEADLINE_S):
                if key == SWEEP:
                    self._sweep()
                elif (target := self._world.cluster.targets().get(key)) is not None:
                    again_s = await self._pass(target, wake)
                    self._queue.wake_at(key, again_s)
                    self._healthy(key)
                else:
                    self._forget(key)
        except (RetryLaterError, TimeoutError) as exc:
            self._failed(key, exc)
        except Exception:  # a task's top: a bug in one service must not stop the others
            log.exception("%s: pass failed", key)
            self._failed(key, None)
        finally:
            self._places.release()
            self._queue.done(key)

    def _sweep(self) -> None:
        """Wake the services whose enrolment changed, and those of which only our own writing is left."""
        cluster = self._world.cluster
        changed = cluster.refresh()
        ours = {key for key, view in cluster.scaled_services.items() if is_ours(view)}
        for key in changed | (ours - cluster.targets().keys()):
            self._queue.wake(key)

    async def _pass(self, target: Target, wake: Wake) -> float:
        """One pass; returns when the next is due."""
        now_s = self._world.clock.now_s()
        service = self._services.setdefault(target.key, Service(key=target.key))
        found, service.policy_problem = self._policies.find(target)
        service.policy = policy = found or service.policy
        if not self._is_leading:
            self._keep_warm(target, policy)
            return now_s + PASS_PERIOD_MAX_S
        if policy is None:
            tell(self._world, service, target, Findings())
            return now_s + REFUSED_PERIOD_S
        refusal = target.refusal(policy.spec.mode) or service.contest.refusal(now_s)
        if refusal is not None:
            self._refuse(service, target, refusal)
            return now_s + REFUSED_PERIOD_S
        await self._decide(service, target, policy, wake)
        return self._next_s(service, policy, now_s)

    async def _decide(self, service: Service, target: Target, policy: ServicePolicy, wake: Wake) -> None:
        world, key = self._world, target.key
        if service.memory is None:
            if world.stale_for_s(world.clock.now_s()) > 0.0:
                # What a term starts from is held against scale-in for a whole window: it must not be an old number.
                raise RetryLaterError("the caches have not caught up with the API server yet")
            service.memory = self._recall(key)
        await world.collector.heard(key)
        started_s = world.clock.now_s()
        done = await reconcile(KubeTarget(world, service, target, policy), policy.spec, service.memory, world.clock)
        service.memory = done.memory
        now_s = world.clock.now_s()
        self._instruments.decided(key, done.decision, took_s=now_s - started_s)
        if done.is_scaled and service.scale_problem is None:
            signalled_s = wake.signalled_at_s
            self._instruments.scaled(key, signal_to_patch_s=None if signalled_s is None else now_s - signalled_s)
        self._log(service, done)
        service.decision, service.refusal = done.decision, None

    def _recall(self, key: str) -> Memory | None:
        """What an earlier leader learned; None: start from the replicas there are."""
        view = self._world.cluster.scaled_services.get(key)
        text = view.status.get("learned") if view is not None else None
        if not isinstance(text, str):
            return None
        try:
            return load(unpack(text), now_s=self._world.clock.now_s())
        except (BadMemoryError, ValueError) as exc:
            log.warning("%s: what was learned cannot be read, it is learned again: %s", key, exc)
            return None

    def _refuse(self, service: Service, target: Target, refusal: Refusal) -> None:
        """Say who is in the way. Samples keep coming, so that the end of the refusal is no cold start."""
        if service.refusal != refusal:
            log.info("%s: hands off (%s): %s", target.key, refusal.reason, refusal.message)
            self._instruments.refused(target.key, refusal.reason.value)
        service.refusal, service.upstream = refusal, NOBODY_ASKED
        self._keep_warm(target, service.policy)
        tell(self._world, service, target, Findings(refusal=refusal))

    def _keep_warm(self, target: Target, policy: ServicePolicy | None) -> None:
        self._world.upstream.forget(target.key)
        deployment = self._world.cluster.deployments.get(target.deployment or "")
        if policy is not None and deployment is not None:
            pods = self._world.cluster.pods_of(deployment)
            self._world.collector.watch(target.key, pods, policy, may_decide=False)

    def _forget(self, key: str) -> None:
        """Enrolled no more: nothing is scaled or scraped, and what we wrote about it goes."""
        self._services.pop(key, None)
        self._world.collector.forget(key)
        self._world.upstream.forget(key)
        self._instruments.forget(key)
        self._queue.forget(key)
        if self._is_leading:
            self._world.reports.put(key, lambda: self._world.publisher.remove(key))

    async def _last_word(self, service: Service) -> None:
        target = self._world.cluster.targets().get(service.key)
        if target is None:
            return
        try:
            note(self._world, service, target, Findings(decision=service.decision, memory=service.memory, is_last=True))
            await publish(self._world, service, target)
        except RetryLaterError as exc:
            log.warning("%s: last status not written: %s", service.key, exc)

    def _next_s(self, service: Service, policy: ServicePolicy, now_s: float) -> float:
        """When to look again though nothing happens."""
        due_s = now_s + pass_period_s(policy.endpoint, self._world.collector.period_s(service.key, policy))
        _, window_changes_s = floor_at(policy.schedules, now_s)
        times = (service.decision.revisit_at_s if service.decision else None, window_changes_s)
        return min([due_s, *(at_s for at_s in times if at_s is not None)])

    def _healthy(self, key: str) -> None:
        if (service := self._services.get(key)) is not None:
            service.failures = 0

    def _failed(self, key: str, exc: Exception | None) -> None:
        """Later and later, by itself."""
        service = self._services.get(key)
        failures = 1
        if service is not None:
            failures = service.failures = service.failures + 1
        if exc is not None and failures in (1, 10, 100):
            log.warning("%s: pass failed, trying again: %s", key, exc or type(exc).__name__)
        draw = self._jitter.uniform(0.0, 1.0)
        wait_s = backoff_s(failures, first_s=RETRY_FIRST_S, cap_s=RETRY_CAP_S, draw=draw)
        if isinstance(exc, ApiFailure) and exc.retry_after_s is not None:
            wait_s = max(wait_s, min(exc.retry_after_s, RETRY_CAP_S))
        self._queue.wake_at(key, self._world.clock.now_s() + wait_s)

    def _log(self, service: Service, done: Pass) -> None:
        """One line per decision that changed something."""
        decision = done.decision
        if decision.replicas == decision.current_replicas:
            return
        if not done.is_scaled and service.decision and service.decision.replicas == decision.replicas:
            return
        verb = "→" if done.is_scaled and service.scale_problem is None else "would be"
        log.info(
            "%s: %d %s %d replicas (%s)",
            service.key,
            decision.current_replicas,
            verb,
            decision.replicas,
            decision.reason,
        )


def _learned_at(service: Service) -> str:
    """When what was learned was last written, as the API has it; never is earliest."""
    return str(service.status.get("learnedTime", ""))
