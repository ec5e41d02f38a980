"""`warmtide demo --engine vllm`: real vLLM servers as the pods of one InferenceService, from one to three and back.

Ten users, each with one request on its way, overfill one server: its queue and its KV cache ask for more. Once three
serve and have served for a while, all users but two leave, and two servers go while they still answer. Nothing is
compressed: a start takes what a real server takes on this machine, about half a minute.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from metrics.clock import Clock
from simulations.cluster.api import INFERENCE_SERVICES, SCALING_POLICIES, Object
from simulations.cluster.http_api import HttpApi
from simulations.cluster.loadgen import LoadGenerator
from simulations.cluster.proxy import Backends, Proxy
from simulations.cluster.proxy import follow_pods as follow_backends
from simulations.cluster.real_vllm import ENVIRONMENT, HEALTHY_WITHIN_S, SERVED_NAME
from simulations.demo import objects
from simulations.demo.children import Children
from simulations.demo.cluster import ADMIN_KUBECONFIG, CONTROLLER_KUBECONFIG, READY
from simulations.demo.frame import View
from simulations.demo.observer import Observer
from simulations.demo.real_course import Course, follow
from simulations.demo.real_verdict import RealVerdict, as_text, judge_real
from simulations.demo.run import LOOK_S, RESULTS, WHY, controller_arguments, demo_error, write_why
from simulations.demo.sensors import follow_gauges
from simulations.demo.set_up import install
from simulations.demo.setting import NAMESPACE
from simulations.demo.watching import POD_LABELS, Watched
from simulations.errors import DemoError
from simulations.trace import Arrival

REPLICAS_MAX = 3
BUSY_USERS, CALM_USERS = 10, 2
BUSY_TOKENS = (600, 400)  # prompt and answer: eight KV blocks each, of the 32 there are
CALM_TOKENS = (300, 900)  # long answers, so that replicas that go have some to finish
HOLD_S = 10.0  # how long three serve before the users leave
DRAIN_S = 30
STABILIZATION_S = 5
UP_WITHIN_S = 60.0
SCALED_WITHIN_S = 2 * HEALTHY_WITHIN_S  # two servers start while the first one is busy
ARGUMENTS = [
    "--max-num-seqs=4",
    "--max-num-batched-tokens=512",
    "--num-gpu-blocks-override=33",
    f"--shutdown-timeout={DRAIN_S}",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealDemo:
    """What one run needs to know."""

    venv: Path
    folder: Path
    view: View
    clock: Clock
    seed: int


@dataclass(slots=True)
class Crowd:
    """How many users there are now, and what each asks for."""

    users: int = BUSY_USERS
    tokens: tuple[int, int] = BUSY_TOKENS
    arrivals: list[Arrival] = field(default_factory=list)  # so far

    def request(self, at_s: float) -> Arrival:
        """A user's next request."""
        prompt_tokens, output_tokens = self.tokens
        self.arrivals.append(Arrival(at_s=at_s, prompt_tokens=prompt_tokens, output_tokens=output_tokens))
        return self.arrivals[-1]


@dataclass(slots=True)
class Scene:
    """What is seen while it plays."""

    backends: Backends
    watched: Watched
    course: Course


async def play_real(demo: RealDemo) -> RealVerdict:
    """Run it and write its results; DemoError when a part fails. Nothing is left running, whatever happens."""
    for name in (ADMIN_KUBECONFIG, CONTROLLER_KUBECONFIG, READY, RESULTS, WHY):
        (demo.folder / name).unlink(missing_ok=True)
    try:
        scene, verdict = await _with_processes(demo)
    except BaseExceptionGroup as group:
        raise demo_error(group) from group
    verdict.write(demo.folder / RESULTS)
    demo.view.say(f"\n{as_text(verdict)}")
    write_why(demo.folder, demo.view, scene.watched)
    return verdict


async def _with_processes(demo: RealDemo) -> tuple[Scene, RealVerdict]:
    async with Children(demo.folder) as children:
        demo.view.say("starting the embedded cluster: API server, nodes, KServe")
        async with asyncio.TaskGroup() as guards:
            cluster = ["-m", "simulations.demo.cluster", f"--folder={demo.folder}", f"--vllm={demo.venv}"]
            await children.start("cluster", cluster, guards)
            await _until(demo, (demo.folder / READY).exists, "the embedded cluster", UP_WITHIN_S)
            async with HttpApi.from_kubeconfig(demo.folder / ADMIN_KUBECONFIG, demo.clock) as api:
                await install(api, demo.clock)
                demo.view.say("starting the controller")
                await children.start("controller", controller_arguments(demo.folder / CONTROLLER_KUBECONFIG), guards)
                await api.create(SCALING_POLICIES, policy())
                await api.create(INFERENCE_SERVICES, service())
                result = await _on_cluster(demo, api)
            children.release()
        return result


async def _on_cluster(demo: RealDemo, api: HttpApi) -> tuple[Scene, RealVerdict]:
    scene = Scene(Backends(), Watched(), Course())
    crowd = Crowd()
    async with Proxy(scene.backends) as proxy, asyncio.TaskGroup() as group:
        load = LoadGenerator(proxy.url, SERVED_NAME, demo.clock, seed=demo.seed)
        observer = Observer(None, crowd, load, scene.watched, demo.clock)
        background = [
            group.create_task(follow_backends(api, scene.backends, NAMESPACE, POD_LABELS)),
            group.create_task(follow(api, scene.watched, scene.course, demo.clock.now_s)),
            group.create_task(follow_gauges(scene.backends, observer.gauges, demo.clock)),
        ]
        demo.view.say("waiting for the first vLLM server")
        await _until(demo, lambda: _is_steady(scene, 1), "the first vLLM server", HEALTHY_WITHIN_S)
        scene.watched.begin(demo.clock.now_s())
        background.append(group.create_task(observer.run(demo.view)))
        async with asyncio.TaskGroup() as playing:
            sent = playing.create_task(load.converse(lambda: crowd.users, crowd.request, on_end=observer.take))
            await _direct(demo, scene, crowd)
        await _until(demo, lambda: _knows_starts(scene), "the lead time to be reported", UP_WITHIN_S * 2)
        for task in background:
            task.cancel()
    verdict = judge_real(
        scene.course,
        sent.result(),
        scene.watched.decisions,
        retried_requests=proxy.retried,
        drained_requests=scene.backends.left_to_drain,
    )
    return scene, verdict


async def _direct(demo: RealDemo, scene: Scene, crowd: Crowd) -> None:
    """Many users until three servers serve; then two users until one does; then none."""
    demo.view.say(f"{crowd.users} users at once, {BUSY_TOKENS[0]} tokens in and {BUSY_TOKENS[1]} out")
    what = f"{REPLICAS_MAX} vLLM servers"
    await _until(demo, lambda: _is_steady(scene, REPLICAS_MAX), what, SCALED_WITHIN_S)
    await demo.clock.sleep(HOLD_S)
    crowd.users, crowd.tokens = CALM_USERS, CALM_TOKENS
    demo.view.say(f"{crowd.users} users are left, {CALM_TOKENS[0]} tokens in and {CALM_TOKENS[1]} out")
    await _until(demo, lambda: _is_steady(scene, 1), "one vLLM server again", SCALED_WITHIN_S)
    crowd.users = 0


def _is_steady(scene: Scene, replicas: int) -> bool:
    """As many pods as that exist, all are ready and in use, and the controller wants no other number."""
    serving = scene.course.serving
    in_use = all(life.used_at_s is not None for life in serving)
    return len(serving) == len(scene.backends) == scene.watched.replicas == scene.watched.desired == replicas and in_use


def _knows_starts(scene: Scene) -> bool:
    return any(lead["starts"] > 1 for lead in scene.course.status.get("leadTimes") or ())


async def _until(demo: RealDemo, holds: Callable[[], bool], what: str, within_s: float) -> None:
    due_s = demo.clock.now_s() + within_s
    while not holds():
        if demo.clock.now_s() > due_s:
            raise DemoError(f"waited {within_s:g} s for {what} in vain; the logs are in the demo's folder")
        await demo.clock.sleep(LOOK_S)


def service() -> Object:
    """The InferenceService; its arguments and environment are those that the real server gets."""
    return objects.enrolled_service(ARGUMENTS, ENVIRONMENT, drain_s=DRAIN_S)


def policy() -> Object:
    """Queue and KV cache decide; down again soon, since people watch."""
    return objects.policy_object(
        {
            "mode": "direct",
            "replicas": {"min": 1, "max": REPLICAS_MAX},
            "objectives": {"ttftSeconds": 0.0},
            "targets": {
                "queueRequests": 2.0,
                "kvCacheUtilization": 0.8,
                "useLearnedCapacity": False,
                "maxAgeSeconds": 10.0,
            },
            "forecast": {"enabled": False},
            "metrics": {"periodSeconds": 0.5, "idlePeriodSeconds": 0.5},
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": STABILIZATION_S,
                    "policies": [{"type": "Percent", "value": 100, "periodSeconds": 1}],
                }
            },
            "leadTimePriorSeconds": 60.0,
        }
    )
