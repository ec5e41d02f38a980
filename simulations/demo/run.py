"""One demo from start to verdict: processes up, a service enrolled, traffic played, everything down again."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autoscaler.explanation import explain
from autoscaler.permissions import NAMESPACE as CONTROLLER_NAMESPACE
from autoscaler.policy.types import PodPhase
from metrics.clock import Clock
from simulations.cluster.http_api import HttpApi
from simulations.cluster.loadgen import LoadGenerator
from simulations.cluster.proxy import Backends, Proxy, follow_pods
from simulations.demo import caches, objects
from simulations.demo.children import Children
from simulations.demo.cluster import ADMIN_KUBECONFIG, AGENT_KUBECONFIG, CONTROLLER_KUBECONFIG, READY
from simulations.demo.frame import View, write_timeline
from simulations.demo.observer import Observer
from simulations.demo.recording import write_requests
from simulations.demo.sensors import follow_gauges
from simulations.demo.set_up import enrol, install
from simulations.demo.setting import MODEL, NAMESPACE, OUTPUT_RATIO, REPLICAS_MIN, SWING, Setting
from simulations.demo.static_fleet import static_fleets
from simulations.demo.verdict import ATTAINMENT_BAR, Run, Verdict, as_text, judge
from simulations.demo.watching import POD_LABELS, Watched, watch
from simulations.demo.workload import Traffic
from simulations.errors import DemoError

UP_WITHIN_S = 60.0  # each step of coming up; seconds on an idle machine
LOOK_S = 0.05
RESULTS, TIMELINE, REQUESTS, WHY = "results.json", "timeline.csv", "requests.csv", "why.txt"
LEFT_FROM_LAST_TIME = (
    *(ADMIN_KUBECONFIG, CONTROLLER_KUBECONFIG, AGENT_KUBECONFIG, READY),
    *(RESULTS, TIMELINE, REQUESTS, WHY),
)


@dataclass(frozen=True, slots=True)
class Demo:
    """What one run needs to know."""

    setting: Setting
    traffic: Traffic
    folder: Path
    view: View
    clock: Clock


async def play(demo: Demo) -> Verdict:
    """Run the demo and write its results; DemoError when a part fails. Nothing is left running, whatever happens."""
    for name in LEFT_FROM_LAST_TIME:
        (demo.folder / name).unlink(missing_ok=True)
    await asyncio.to_thread(caches.clean, demo.folder)
    try:
        observer, played = await _with_processes(demo)
    except BaseExceptionGroup as group:
        raise demo_error(group) from group
    finally:
        await asyncio.to_thread(caches.clean, demo.folder)
    write_timeline(demo.folder / TIMELINE, observer.history)
    write_requests(demo.folder / REQUESTS, played.records)
    verdict = _judged(demo, played)
    verdict.write(demo.folder / RESULTS)
    demo.view.say(f"\n{as_text(verdict)}")
    write_why(demo.folder, demo.view, observer.watched)
    return verdict


async def _with_processes(demo: Demo) -> tuple[Observer, Run]:
    async with Children(demo.folder) as children:
        demo.view.say("starting the embedded cluster: API server, nodes, KServe")
        async with asyncio.TaskGroup() as guards:
            await asyncio.to_thread(caches.make_model, demo.folder, demo.setting.seed)
            hub = await caches.start_hub(demo.folder, children, guards, demo.clock)
            await children.start("cluster", cluster_arguments(demo, hub), guards)
            await _until(demo.clock, (demo.folder / READY).exists, "the embedded cluster to come up")
            async with HttpApi.from_kubeconfig(demo.folder / ADMIN_KUBECONFIG, demo.clock) as api:
                await install(api, demo.clock)
                demo.view.say("starting the controller, and the agents of two nodes")
                controller = [*controller_arguments(demo.folder / CONTROLLER_KUBECONFIG), *caches.hosts_of(hub)]
                await children.start("controller", controller, guards, environment=caches.environment_of(hub))
                await caches.start_agents(demo.folder, demo.folder / AGENT_KUBECONFIG, hub, children, guards)
                warm_start = await caches.cold_and_warm(api, demo.clock, demo.view.say)
                result = await _on_cluster(demo, api, warm_start)
            children.release()
        demo.view.close()
        return result


async def _on_cluster(demo: Demo, api: HttpApi, warm_start: caches.WarmStart) -> tuple[Observer, Run]:
    await enrol(api, demo.setting)
    backends, watched = Backends(), Watched()
    async with Proxy(backends) as proxy, asyncio.TaskGroup() as group:
        load = LoadGenerator(proxy.url, MODEL, demo.clock, seed=demo.setting.seed)
        observer = Observer(demo.setting, demo.traffic, load, watched, demo.clock)
        background = [
            group.create_task(follow_pods(api, backends, NAMESPACE, POD_LABELS)),
            group.create_task(watch(api, watched, demo.clock.now_s)),
        ]
        await _ready(demo, backends, watched)
        background.append(group.create_task(follow_gauges(backends, observer.gauges, demo.clock)))
        watched.begin(demo.clock.now_s())
        background.append(group.create_task(observer.run(demo.view)))
        records = await load.run(demo.traffic.arrivals, on_end=observer.take)
        replica_seconds = watched.replica_seconds(demo.clock.now_s())
        observer.look()
        for task in background:
            task.cancel()
    return observer, Run(
        setting=demo.setting,
        traffic=demo.traffic,
        records=records,
        replica_seconds=replica_seconds,
        decisions=tuple(watched.decisions),
        retried_requests=proxy.retried,
        policy=objects.scaling_policy(demo.setting)["spec"],
        warm_start=warm_start,
    )


def cluster_arguments(demo: Demo, hub: str) -> list[str]:
    """The embedded cluster."""
    folder, seconds = f"--folder={demo.folder}", f"--seconds={demo.setting.seconds}"
    return ["-m", "simulations.demo.cluster", folder, seconds, f"--hub={hub}"]


def controller_arguments(kubeconfig: Path) -> list[str]:
    """The real controller, as its manifest starts it but for where it listens."""
    lease = f"--lease-namespace={CONTROLLER_NAMESPACE}"
    return ["-m", "autoscaler", f"--kubeconfig={kubeconfig}", lease, "--listen=127.0.0.1:0"]


async def _ready(demo: Demo, backends: Backends, watched: Watched) -> None:
    demo.view.say(f"waiting for the first {REPLICAS_MIN} replicas")

    def is_ready() -> bool:
        enough = len(backends) >= REPLICAS_MIN and watched.phases[PodPhase.READY] >= REPLICAS_MIN
        return enough and watched.desired is not None and watched.replicas == watched.phases[PodPhase.READY]

    await _until(demo.clock, is_ready, f"{REPLICAS_MIN} ready replicas and a first decision")
    count, seconds = len(demo.traffic.arrivals), demo.setting.seconds
    demo.view.say(
        f"traffic: {count} of {demo.traffic.recorded} requests, {demo.traffic.source}; "
        f"one hour in {seconds:g} s (1 : {demo.setting.compression:g}), its swings stretched to 1 : {SWING:g}, "
        f"answers cut to 1/{1 / OUTPUT_RATIO:g} of their length"
    )


async def _until(clock: Clock, holds: Callable[[], bool], what: str) -> None:
    due_s = clock.now_s() + UP_WITHIN_S
    while not holds():
        if clock.now_s() > due_s:
            raise DemoError(f"waited {UP_WITHIN_S:g} s for {what} in vain; the logs are in the demo's folder")
        await clock.sleep(LOOK_S)


def _judged(demo: Demo, run: Run) -> Verdict:
    demo.view.say("replaying the same requests on static fleets")
    fleets = static_fleets(
        demo.traffic.arrivals,
        demo.setting,
        attainment_ratio=ATTAINMENT_BAR,
        capacity=demo.traffic.capacity_tokens_per_s,
    )
    return judge(run, fleets)


def write_why(folder: Path, view: View, watched: Watched) -> None:
    """Explain the most interesting decision, when there was one."""
    if watched.told is None:
        return
    text = explain(*watched.told)
    (folder / WHY).write_text(text, encoding="utf-8")
    view.say(f"\nThe most interesting decision, as `warmtide why` told it then:\n\n{text}")


def demo_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The part that failed, out of however many groups it came wrapped in; a bug stays what it is."""
    failed = group.subgroup(DemoError)
    error: BaseException = failed if failed is not None else group
    while isinstance(error, BaseExceptionGroup) and failed is not None:
        error = error.exceptions[0]
    return error
