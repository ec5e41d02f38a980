"""Queue edge → new spec.replicas, beside KEDA 2.20 with the HPA: one real control plane, one load, one instant.

Each of nine edges raises the queue of two Deployments at once, one scaled by KEDA (Prometheus scaler, real Prometheus,
real HPA), one by Warmtide. Once with the defaults of all, once tuned on their side: Prometheus scrapes every second,
KEDA polls every second, the HPA syncs every second. Ours keeps its defaults. A watcher takes the time of both.
"""

import asyncio
import random
import statistics
import sys
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from emulated_pages import Load, Pages
from figures import Figure
from peers import (
    aggregation_flags,
    keda,
    prometheus,
    require_peers,
    scaled_object,
    until_active,
    write_certificates,
)
from real_plane import NO_ENDPOINTS, SPACE, controller, inside, install, kubeconfig, kwok, until_stopped, write_figures

from metrics.clock import WallClock
from simulations.cluster.api import DEPLOYMENTS, SCALED_OBJECTS
from simulations.cluster.http_api import HttpApi

EDGES = 9
NODES = 2
RUNNING, QUEUE, THRESHOLD = 8, 6, 2  # six wait where two may: three replicas
CALM_S = 20.0  # all have seen the calm before the first edge
APART_S = (3.0, 8.0)  # random, so that no edge keeps step with anybody's period
ANSWER_WITHIN_S = 90.0
ACTIVE_WITHIN_S = 90.0
PREFIX_OURS, PREFIX_THEIRS = "ours", "keda"
SCRAPE_S = {"default": 15, "tuned": 1}
POLLING_S = {"default": None, "tuned": 1}
TUNED_SYNC = "kube-controller-manager:--horizontal-pod-autoscaler-sync-period=1s"
POLICY = {
    "mode": "direct",
    "replicas": {"min": 1, "max": 10},
    "objectives": {"ttftSeconds": 0},  # the pages' latencies do not follow the load
    "targets": {"useLearnedCapacity": False},  # nor do their tokens
}


def deployment(name: str, port: int, annotations: dict[str, str]) -> dict:
    labels = {"app": name}
    container = {"name": "vllm", "image": "vllm:v0.32.0", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    page = {"prometheus.kserve.io/port": str(port), "prometheus.kserve.io/path": f"/metrics/{name}"}
    return {
        "metadata": {"name": name, "namespace": SPACE, "annotations": annotations},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels, "annotations": page}, "spec": {"containers": [container]}},
        },
    }


@dataclass(slots=True)
class Race:
    """The Deployments of both sides, and how long each took to answer its edge."""

    api: HttpApi
    pages: Pages
    clock: WallClock
    raised_s: dict[str, float] = field(default_factory=dict)
    took_s: dict[str, float] = field(default_factory=dict)
    early: list[str] = field(default_factory=list)

    async def follow(self) -> None:
        """Every change of a Deployment; the load spreads over the replicas that are ready."""
        async for event in self.api.watch([DEPLOYMENTS]):
            name, now_s = event.object["metadata"]["name"], self.clock.now_s()
            if name not in self.pages.loads:
                continue
            self.pages.loads[name].replicas = max(1, (event.object.get("status") or {}).get("readyReplicas", 0))
            if event.object["spec"]["replicas"] > 1 and name not in self.took_s:
                if name in self.raised_s:
                    self.took_s[name] = now_s - self.raised_s[name]
                else:
                    self.early.append(name)

    async def run(self) -> None:
        """All edges, until both sides have answered each."""
        chance = random.Random(2)
        await self.clock.sleep(CALM_S)
        if self.early:
            raise RuntimeError(f"scaled before there was a queue: {', '.join(sorted(set(self.early)))}")
        for number in range(EDGES):
            for prefix in (PREFIX_OURS, PREFIX_THEIRS):
                self.raised_s[f"{prefix}-{number}"] = self.clock.now_s()
                self.pages.loads[f"{prefix}-{number}"].requests = RUNNING + QUEUE
            await self.clock.sleep(chance.uniform(*APART_S))
        due_s = self.clock.now_s() + ANSWER_WITHIN_S
        while len(self.took_s) < 2 * EDGES and self.clock.now_s() < due_s:
            await self.clock.sleep(0.2)

    def times_s(self, prefix: str) -> list[float]:
        """Sorted; an edge that was never answered counts as long as it waited."""
        now_s = self.clock.now_s()
        raised = {name: at_s for name, at_s in self.raised_s.items() if name.startswith(prefix)}
        return sorted(self.took_s.get(name, now_s - at_s) for name, at_s in raised.items())


async def main(out: Path, how: str, certificates: Path) -> None:
    clock = WallClock()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(HttpApi.from_kubeconfig(kubeconfig()))
        await install(api, POLICY)
        await stack.enter_async_context(kwok(api, NODES))
        pages = Pages(clock)
        port = await pages.listen()
        names = [f"{prefix}-{number}" for prefix in (PREFIX_OURS, PREFIX_THEIRS) for number in range(EDGES)]
        pages.loads = {name: Load(requests=RUNNING) for name in names}
        url = await stack.enter_async_context(prometheus(certificates, names, port, SCRAPE_S[how]))
        await stack.enter_async_context(keda(api, certificates))
        for name in names:
            is_ours = name.startswith(PREFIX_OURS)
            await api.create(DEPLOYMENTS, deployment(name, port, {"warmtide.dev/policy": "gold"} if is_ours else {}))
            if not is_ours:
                await api.create(SCALED_OBJECTS, scaled_object(name, url, THRESHOLD, POLLING_S[how]))
        await stack.enter_async_context(controller())
        race = Race(api, pages, clock)
        following = asyncio.ensure_future(race.follow())
        await until_active(api, EDGES, ACTIVE_WITHIN_S)
        await race.run()
        following.cancel()
        await asyncio.wait([following])
        write_figures(out, figures(race, how))


def figures(race: Race, how: str) -> list[Figure]:
    """Every single time, for `run` to sum up."""
    times = {prefix: race.times_s(prefix) for prefix in (PREFIX_OURS, PREFIX_THEIRS)}
    return [Figure(name=prefix, value=took_s, unit="s") for prefix, all_s in times.items() for took_s in all_s]


def run() -> list[Figure]:
    require_peers()
    with tempfile.TemporaryDirectory(prefix="warmtide-peers-") as folder:
        write_certificates(Path(folder))
        flags = [NO_ENDPOINTS, *aggregation_flags(Path(folder))]
        rounds = {how: inside(__file__, how, folder, flags=flags + tuned) for how, tuned in _rounds().items()}
    return summary({how: _by_side(times) for how, times in rounds.items()})


def _rounds() -> dict[str, list[str]]:
    return {"default": [], "tuned": [TUNED_SYNC]}


def _by_side(times: list[Figure]) -> dict[str, list[float]]:
    return {side: sorted(t.value for t in times if t.name == side) for side in (PREFIX_OURS, PREFIX_THEIRS)}


def summary(rounds: dict[str, dict[str, list[float]]]) -> list[Figure]:
    """Both sides, and by what factor."""
    ours = sorted(took_s for sides in rounds.values() for took_s in sides[PREFIX_OURS])
    found = [
        Figure(name="warmtide_p50_s", value=statistics.median(ours), unit="s", bar=1.5, better="lower"),
        Figure(name="warmtide_p99_s", value=ours[int(len(ours) * 0.99)], unit="s", bar=3.0, better="lower"),
        Figure(name="warmtide_edges", value=len(ours), unit="edges"),
    ]
    for how, bar in (("default", 10.0), ("tuned", 3.0)):
        theirs, beside = rounds[how][PREFIX_THEIRS], rounds[how][PREFIX_OURS]
        middle_s = statistics.median(theirs)
        found += [
            Figure(name=f"keda_{how}_min_s", value=theirs[0], unit="s"),
            Figure(name=f"keda_{how}_p50_s", value=middle_s, unit="s"),
            Figure(name=f"keda_{how}_max_s", value=theirs[-1], unit="s"),
            Figure(name=f"faster_than_keda_{how}", value=middle_s / statistics.median(beside), unit="ratio", bar=bar),
        ]
    return found


if __name__ == "__main__":
    until_stopped(main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
