"""The HPA's rule beside the real kube-controller-manager: 20 courses of metrics, every sync decided twice.

A real control plane with kwok's nodes; an adapter on loopback serves the custom and external metrics APIs. The rule
gets what the controller was answered, from the object itself (`simulations.imports`). `WARMTIDE_RECORD=FILE` keeps
the recording: tests/golden/hpa_decisions.json is one, and tests/simulations/imports/test_recorded.py replays it.
"""

import json
import os
import random
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from figures import Figure
from metrics_adapter import TARGET, Adapter, Course, register
from peers import aggregation_flags, free_port, write_certificates
from real_plane import NO_ENDPOINTS, inside, kubeconfig, kwok, until, until_stopped, write_figures

from metrics.clock import WallClock
from simulations.cluster.api import DEPLOYMENTS, HPAS, NAMESPACES
from simulations.cluster.http_api import HttpApi
from simulations.imports.recorded import PODS_METRIC, TOTAL_METRIC, Decision, Recording, replayed

Object = dict
SPACE = "adapter"
# Every window is an odd multiple of half a sync: what lies just at an edge would be decided by milliseconds.
SYNC_S, WINDOW_S = 6, 9
STEPS, STEP_S = 16, 12.0
NODES, GPUS_EACH = 1, 8  # 64 GPUs on the node: eight pods with GPUs find room, more of them wait
SHARE_EQUAL_MIN = 0.98
DEPLOYED_WITHIN_S = 60.0


def rules(window_s: int, *policies: tuple[str, int, int], **more: object) -> Object:
    """One direction of `behavior`."""
    rates = [{"type": kind, "value": value, "periodSeconds": period_s} for kind, value, period_s in policies]
    return {"stabilizationWindowSeconds": window_s, **({"policies": rates} if rates else {}), **more}


def total(target: str, *, style: str = "AverageValue") -> Object:
    """An External metric."""
    goal = {"type": style, "averageValue" if style == "AverageValue" else "value": target}
    return {"type": "External", "external": {"metric": {"name": TOTAL_METRIC}, "target": goal}}


def each_pod(target: str) -> Object:
    """A Pods metric."""
    goal = {"type": "AverageValue", "averageValue": target}
    return {"type": "Pods", "pods": {"metric": {"name": PODS_METRIC}, "target": goal}}


def walk(seed: int, low: float, high: float) -> list[float]:
    """Anything between both, in halves, without a pattern."""
    chance = random.Random(seed)
    return [round(chance.uniform(low, high) * 2) / 2 for _ in range(STEPS)]


RAMP = [2.0 * step for step in range(STEPS)]
SPIKE = [4.0] * 4 + [60.0] * 2 + [4.0] * (STEPS - 6)
TIDE = [5.0, 20.0, 45.0, 80.0, 45.0, 20.0, 5.0, 0.0] * 2
NEAR = [10.0, 10.9, 11.0, 11.1, 9.1, 9.0, 8.9, 10.0] * 2
GAPS = [20.0, None, 40.0, None, 5.0, 5.0, None, 30.0] * 2
SWING = [10.0, 13.0, 15.0, 9.0, 5.0, 12.0, 8.0, 20.0] * 2
CALM = rules(WINDOW_S)
SLOW_UP = {"scaleUp": rules(15), "scaleDown": CALM}
PODS_UP = {"scaleUp": rules(0, ("Pods", 2, 9)), "scaleDown": rules(0, ("Percent", 50, 9))}
SMALLER = {
    "scaleUp": rules(0, ("Pods", 3, 9), ("Percent", 100, 15), selectPolicy="Min"),
    "scaleDown": rules(3, ("Pods", 1, 9), ("Percent", 40, 15), selectPolicy="Min"),
}
ONLY_UP = {"scaleUp": rules(0), "scaleDown": {"selectPolicy": "Disabled"}}
TOLERANT = {"scaleUp": rules(0, tolerance="50m"), "scaleDown": rules(3, tolerance="0.3")}

# name: (metrics, behavior, course)
SERIES: dict[str, tuple[list[Object], Object | None, Course]] = {
    "average-ramp": ([total("5")], None, Course(totals=RAMP)),
    "average-spike": ([total("5")], None, Course(totals=SPIKE)),
    "average-tide": ([total("5")], {"scaleDown": CALM}, Course(totals=TIDE)),
    "average-near": ([total("5")], {"scaleDown": rules(0)}, Course(totals=NEAR)),
    "average-walk": ([total("2500m")], {"scaleDown": CALM}, Course(totals=walk(1, 0, 40))),
    "average-slow-up": ([total("5")], SLOW_UP, Course(totals=TIDE)),
    "average-pods-up": ([total("5")], PODS_UP, Course(totals=TIDE)),
    "average-smaller": ([total("5")], SMALLER, Course(totals=walk(2, 0, 60))),
    "average-only-up": ([total("5")], ONLY_UP, Course(totals=walk(3, 0, 50))),
    "average-tolerant": ([total("5")], TOLERANT, Course(totals=walk(4, 8, 30))),
    "average-gaps": ([total("5")], {"scaleDown": rules(0)}, Course(totals=GAPS)),
    "value-ramp": ([total("10", style="Value")], {"scaleDown": CALM}, Course(totals=RAMP)),
    "value-walk": ([total("10", style="Value")], PODS_UP, Course(totals=walk(5, 2, 25))),
    "value-plain": (
        [total("10", style="Value")],
        None,
        Course(totals=[10.0, 12.0, 15.0, 9.0, 5.0, 12.0, 8.0, 20.0] * 2),
    ),
    "pods-walk": ([each_pod("10")], {"scaleDown": CALM}, Course(per_pod=walk(6, 2, 20))),
    "pods-plain": ([each_pod("10")], None, Course(per_pod=SWING)),
    "pods-silent": ([each_pod("10")], {"scaleDown": rules(0)}, Course(per_pod=walk(7, 2, 45), silent=1)),
    "pods-pending": ([each_pod("10")], {"scaleDown": rules(0)}, Course(per_pod=walk(8, 4, 18))),
    "both": ([each_pod("10"), total("5")], {"scaleDown": CALM}, Course(per_pod=walk(9, 2, 15), totals=TIDE)),
    "both-gaps": ([each_pod("10"), total("5")], {"scaleDown": rules(0)}, Course(per_pod=walk(10, 2, 15), totals=GAPS)),
}


def hpa(name: str) -> Object:
    """The object of a series."""
    metrics, behavior, _ = SERIES[name]
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": TARGET},
        "minReplicas": 1,
        "maxReplicas": 14,
        "metrics": metrics,
    }
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": name},
        "spec": spec | ({"behavior": behavior} if behavior is not None else {}),
    }


def deployment(name: str) -> Object:
    """Two replicas; those of one series need more GPUs than there are."""
    labels = {"app": name}
    limits = {"resources": {"limits": {"nvidia.com/gpu": str(GPUS_EACH)}}} if name == "pods-pending" else {}
    container = {"name": "vllm", "image": "vllm:v0.32.0", **limits}
    return {
        "metadata": {"name": TARGET, "namespace": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


async def main(out: Path, recording: Path, certificates: Path) -> None:
    clock = WallClock()
    courses = {name: course for name, (_, _, course) in SERIES.items()}
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(HttpApi.from_kubeconfig(kubeconfig()))
        await stack.enter_async_context(kwok(api, NODES))
        for name in (SPACE, *SERIES):
            await api.create(NAMESPACES, {"metadata": {"name": name}})
        adapter, port = Adapter(api, clock, courses, STEP_S), free_port()
        runner = await adapter.serve(certificates, port)
        stack.push_async_callback(runner.cleanup)
        await register(api, SPACE, port)
        for name in SERIES:
            await api.create(DEPLOYMENTS, deployment(name))
        await until(lambda: are_ready(api), DEPLOYED_WITHIN_S)
        adapter.began_s = clock.now_s()
        for name in SERIES:
            await api.create(HPAS, hpa(name))
        await clock.sleep(STEPS * STEP_S)
    recorded = [
        Recording(hpa=hpa(name), down_window_s=WINDOW_S, syncs=course.syncs) for name, course in courses.items()
    ]
    keep(recording, recorded)
    write_figures(out, figures([decision for one in recorded for decision in replayed(one)]))


def keep(file: Path, recorded: list[Recording]) -> None:
    """One object a line."""
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in recorded)
    file.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


async def are_ready(api: HttpApi) -> bool:
    """Both replicas of every series."""
    found = [await api.get(DEPLOYMENTS, name, TARGET) for name in SERIES]
    return all(one.get("status", {}).get("readyReplicas") == 2 for one in found)


def figures(decisions: list[Decision]) -> list[Figure]:
    """How often both agree; each difference on stderr, to be looked into."""
    apart = [abs(decision.real - decision.rule) for decision in decisions]
    for decision in decisions:
        if decision.real != decision.rule:
            sys.stderr.write(f"{decision}\n")
    moved = sum(decision.real != decision.replicas for decision in decisions)
    return [
        Figure(name="sim_hpa_series", value=len({d.name for d in decisions}), unit="series", bar=20),
        Figure(name="sim_hpa_decisions", value=len(decisions), unit="syncs"),
        Figure(name="sim_hpa_changes", value=moved, unit="of them"),
        Figure(name="sim_hpa_equal", value=apart.count(0) / len(apart), unit="ratio", bar=SHARE_EQUAL_MIN),
        Figure(name="sim_hpa_furthest", value=max(apart), unit="replicas", bar=1, better="lower"),
    ]


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="warmtide-hpa-") as folder:
        write_certificates(Path(folder))
        sync = f"kube-controller-manager:--horizontal-pod-autoscaler-sync-period={SYNC_S}s"
        window = f"kube-controller-manager:--horizontal-pod-autoscaler-downscale-stabilization={WINDOW_S}s"
        recording = os.environ.get("WARMTIDE_RECORD", str(Path(folder) / "recording.json"))
        flags = [NO_ENDPOINTS, sync, window, *aggregation_flags(Path(folder))]
        return inside(__file__, recording, folder, flags=flags)


if __name__ == "__main__":
    until_stopped(main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3])))
