"""The mirror sees its own writes; the reconcile loop retries, coalesces and comes back when asked to."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from simulations.cluster.api import PODS, ApiError, Object, Resource
from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.workloads.mirror import Key, Mirror, by_label, is_going
from simulations.cluster.workloads.reconciler import Reconciler
from simulations.cluster.workloads.settle import LoopClock, running, settle

KEY = ("default", "p")


def pod(name: str = "p", **labels: str) -> Object:
    metadata = {"name": name, "namespace": "default", "labels": labels}
    return {"metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}}


@pytest.fixture
async def api() -> LocalApi:
    return LocalApi.on_new_store(LoopClock(), seed=1)


@pytest.fixture
async def mirror(api: LocalApi) -> Mirror:
    return Mirror(api, {PODS: {"label": by_label}})


class Follower:
    """A mirror's watch as something to run."""

    is_idle = True

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror

    async def run(self) -> None:
        await self._mirror.load()
        await self._mirror.follow()


async def test_a_write_is_seen_before_its_event(mirror: Mirror) -> None:
    made = await mirror.create(PODS, pod())
    await mirror.patch(PODS, KEY, {"metadata": {"labels": {"app": "llm"}}})

    assert mirror.find(PODS, "label", ("default", "app", "llm"))[0]["metadata"]["uid"] == made["metadata"]["uid"]


async def test_a_deletion_is_seen_before_its_event(mirror: Mirror) -> None:
    made = await mirror.create(PODS, pod())
    await mirror.delete(PODS, made)

    assert is_going(mirror.get(PODS, KEY) or {})
    assert (mirror.get(PODS, KEY) or {})["metadata"]["deletionGracePeriodSeconds"] == 30


async def test_deleting_what_is_gone_forgets_it(mirror: Mirror, api: LocalApi) -> None:
    made = await mirror.create(PODS, pod())
    await api.delete(PODS, *KEY, 0)
    await mirror.delete(PODS, made)

    assert mirror.get(PODS, KEY) is None


class LateApi:
    """An API whose answers arrive after whatever `meanwhile` does, and after its events."""

    def __init__(self, api: LocalApi, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self._api = api
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> object:
        return getattr(self._api, name)

    async def create(self, resource: Resource, obj: Object) -> Object:
        return await self._late(await self._api.create(resource, obj))

    async def patch(
        self, resource: Resource, namespace: str, name: str, patch: Object, subresource: str = ""
    ) -> Object:
        return await self._late(await self._api.patch(resource, namespace, name, patch, subresource))

    async def _late(self, answer: Object) -> Object:
        await self._meanwhile()
        await asyncio.sleep(1)
        return answer


async def test_a_late_answer_never_replaces_a_newer_version(mirror: Mirror, api: LocalApi) -> None:
    await api.create(PODS, pod())
    async with running(Follower(mirror)):
        await settle(LoopClock(), Follower(mirror))
        newer = {"metadata": {"labels": {"n": "newer"}}}
        mirror.api = LateApi(api, lambda: api.patch(PODS, *KEY, newer))
        await mirror.patch(PODS, KEY, {"metadata": {"labels": {"n": "older"}}})

    assert (mirror.get(PODS, KEY) or {})["metadata"]["labels"] == {"n": "newer"}


async def test_a_late_answer_never_brings_back_what_is_gone(mirror: Mirror, api: LocalApi) -> None:
    async with running(Follower(mirror)):
        await settle(LoopClock(), Follower(mirror))  # the watch stands
        mirror.api = LateApi(api, lambda: api.delete(PODS, *KEY, 0))
        await mirror.create(PODS, pod())

    assert mirror.get(PODS, KEY) is None


async def test_the_mirror_follows_and_forgets(mirror: Mirror, api: LocalApi) -> None:
    await api.create(PODS, pod("before"))
    clock = LoopClock()
    async with running(Follower(mirror)):
        await api.create(PODS, pod("during"))
        await settle(clock, Follower(mirror))
        both = {one["metadata"]["name"] for one in mirror.all(PODS)}
        await api.delete(PODS, "default", "before", 0)
        await settle(clock, Follower(mirror))

        assert await mirror.lag() == 0
    assert both == {"before", "during"}
    assert [one["metadata"]["name"] for one in mirror.all(PODS)] == ["during"]


async def test_what_vanished_while_nobody_watched_is_forgotten(mirror: Mirror, api: LocalApi) -> None:
    await mirror.create(PODS, pod())
    await api.delete(PODS, *KEY, 0)
    assert await mirror.lag() == 1

    await mirror.load()

    assert mirror.get(PODS, KEY) is None


class Script:
    """A reconcile function that follows a script and keeps when it was called."""

    def __init__(self, clock: LoopClock, answers: Mapping[int, object]) -> None:
        self.calls_s: list[float] = []
        self._clock = clock
        self._answers = answers

    async def __call__(self, key: Key) -> float | None:
        del key
        self.calls_s.append(round(self._clock.now_s(), 2))
        answer = self._answers.get(len(self.calls_s))
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await answer.wait()
            return None
        return answer if isinstance(answer, float) else None


@pytest.fixture
async def loop_of() -> Callable[[Mapping[int, object]], tuple[Reconciler, Script, LoopClock]]:
    def make(answers: Mapping[int, object]) -> tuple[Reconciler, Script, LoopClock]:
        clock = LoopClock()
        script = Script(clock, answers)
        return Reconciler("test", script, clock), script, clock

    return make


async def test_wakes_before_the_work_count_once(loop_of) -> None:
    loop, script, clock = loop_of({})
    async with running(loop):
        for _ in range(100):
            loop.wake(KEY)
        await settle(clock, loop)

    assert len(script.calls_s) == 1


async def test_a_wake_during_the_work_means_once_more(loop_of) -> None:
    gate = asyncio.Event()
    loop, script, clock = loop_of({1: gate})
    async with running(loop):
        loop.wake(KEY)
        await clock.sleep(0.1)
        loop.wake(KEY)
        loop.wake(KEY)
        assert not loop.is_idle
        gate.set()
        await settle(clock, loop)

    assert len(script.calls_s) == 2


async def test_errors_back_off_and_count_as_work_for_a_while(loop_of) -> None:
    loop, script, clock = loop_of({n: ApiError(500, "InternalError", "no") for n in range(1, 5)})
    async with running(loop):
        loop.wake(KEY)
        await clock.sleep(0.01)
        assert not loop.is_idle
        await settle(clock, loop)

    pauses = [round(after - before, 2) for before, after in zip(script.calls_s, script.calls_s[1:], strict=False)]
    assert pauses == [0.05, 0.1, 0.2, 0.4]


async def test_an_error_that_stays_does_not_hold_up_the_world(loop_of) -> None:
    loop, script, clock = loop_of({n: ApiError(403, "Forbidden", "no") for n in range(1, 10_000)})
    async with running(loop):
        loop.wake(KEY)
        await settle(clock, loop)
        await clock.sleep(600)

    assert 20 <= len(script.calls_s) <= 40  # every 30 s in the end


async def test_an_error_that_is_a_bug_ends_the_loop(loop_of) -> None:
    loop, _, _ = loop_of({1: KeyError("bug")})
    loop.wake(KEY)

    with pytest.raises(BaseExceptionGroup) as caught:
        await loop.run()

    assert caught.group_contains(KeyError)


async def test_an_answer_in_seconds_comes_back_then(loop_of) -> None:
    loop, script, clock = loop_of({1: 5.0})
    async with running(loop):
        loop.wake(KEY)
        await clock.sleep(20)

    assert [round(at_s - script.calls_s[0]) for at_s in script.calls_s] == [0, 5]


async def test_work_that_never_ends_is_a_timeout_not_a_hang(loop_of) -> None:
    loop, _, clock = loop_of({1: asyncio.Event()})
    async with running(loop):
        loop.wake(KEY)

        with pytest.raises(TimeoutError, match=r"still at work after 2\.0 s"):
            await settle(clock, loop, patience_s=2.0)
