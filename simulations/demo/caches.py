"""The first act of the demo: the same replica started twice, from the hub and from its node's disk.

Two node agents run as processes with a folder each. A hub serves a generated model at a limited rate. A service starts
on a node that has nothing: its pod fetches every byte. Then a ModelCache asks for the model on both nodes; one agent
fetches it from the hub, the other from the first; both verify and publish. The service starts again.
"""

import asyncio
import os
import random
import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from metrics.clock import Clock
from simulations.cluster.api import INFERENCE_SERVICES, MODEL_CACHES, NODE_MODEL_CACHES, PODS, Object, ObjectApi
from simulations.demo.children import Children
from simulations.demo.objects import CACHE_NODES, cached_service, model_cache
from simulations.demo.setting import CACHED_SERVICE, MODEL_BYTES, MODEL_URI, NAMESPACE
from simulations.errors import DemoError

HUB_BYTES_PER_S = 25e6  # of one answer, as a busy link to a far hub: eight seconds for the model
SHARDS = 2
WITHIN_S = 90.0  # each step; ten seconds on an idle machine
LOOK_S = 0.1
TOLD_EVERY_S = 1.0
MODELS, NODES, TOKEN = "hub", "nodes", "peer.token"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What a cache was worth: seconds from asking for a replica to its being ready."""

    model_bytes: int
    cold_s: float
    prefetch_s: float  # from the ModelCache to the tree on both nodes
    warm_s: float

    def text(self) -> str:
        """For humans."""
        size = f"{self.model_bytes / 1e6:.0f} MB of weights"
        return (
            f"model cache      {size}: a replica is ready after {self.cold_s:.1f} s from the hub, {self.warm_s:.1f} s "
            f"from its node; bringing them to two nodes took {self.prefetch_s:.1f} s"
        )


def make_model(folder: Path, seed: int) -> None:
    """A model of the right size with bytes that no filesystem can pack."""
    path = folder / MODELS / MODEL_URI.removeprefix("hf://")
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text('{"model_type": "llama"}\n', encoding="utf-8")
    chance = random.Random(seed)
    for number in range(1, SHARDS + 1):
        name = f"model-{number:05d}-of-{SHARDS:05d}.safetensors"
        (path / name).write_bytes(chance.randbytes(MODEL_BYTES // SHARDS))


async def start_hub(folder: Path, children: Children, guards: asyncio.TaskGroup, clock: Clock) -> str:
    """The hub as a process; its endpoint."""
    arguments = ["-m", "simulations.hub", str(folder / MODELS), "--bytes-per-s", str(HUB_BYTES_PER_S)]
    child = await children.start("hub", arguments, guards)
    due_s = clock.now_s() + WITHIN_S
    while not (said := child.log.read_text(encoding="utf-8")).endswith("\n"):
        if clock.now_s() > due_s:
            raise DemoError(f"the hub did not come up within {WITHIN_S:g} s; see {child.log}")
        await clock.sleep(LOOK_S)
    return said.split("\n", 1)[0].strip()


def hosts_of(hub: str) -> list[str]:
    """Arguments that let a process fetch from the hub, which is on loopback, under both of its names."""
    port = hub.rpartition(":")[2]
    return [f"--allow-host=127.0.0.1:{port}", f"--allow-host=localhost:{port}"]


def environment_of(hub: str) -> dict[str, str]:
    """Where models come from."""
    return {"HF_ENDPOINT": hub}


async def start_agents(folder: Path, kubeconfig: Path, hub: str, children: Children, guards: asyncio.TaskGroup) -> None:
    """Two nodes' agents, which share a token and so give models to each other."""
    token = folder / TOKEN
    token.write_text(f"{os.urandom(16).hex()}\n", encoding="ascii")
    for node in CACHE_NODES:
        await children.start(
            f"agent-{node}", _agent(folder, node, kubeconfig, hub), guards, environment=environment_of(hub)
        )


def _agent(folder: Path, node: str, kubeconfig: Path, hub: str) -> list[str]:
    root = folder / NODES / node
    root.mkdir(parents=True, exist_ok=True)
    return [
        *("-m", "nodeagent", f"--node={node}", f"--root={root}", "--claim", f"--kubeconfig={kubeconfig}"),
        *("--listen=127.0.0.1:0", f"--peer-token-file={folder / TOKEN}", "--peer-listen=127.0.0.1:0"),
        *("--no-kserve", "--look-seconds=0.2", "--idle-seconds=0.5", *hosts_of(hub)),
    ]


def clean(folder: Path) -> None:
    """The models go with the demo: 600 MB that nobody asked to keep."""
    for name in (MODELS, NODES):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / TOKEN).unlink(missing_ok=True)


async def cold_and_warm(api: ObjectApi, clock: Clock, say: Say) -> WarmStart:
    """Start, cache, start again."""
    say(f"model cache: a replica on {CACHE_NODES[-1]}, which has none of its {MODEL_BYTES / 1e6:.0f} MB of weights")
    cold_s = await _start_and_stop(api, clock)
    say(f"  ready after {cold_s:.1f} s; every byte came from the hub")
    began_s = clock.now_s()
    await api.create(MODEL_CACHES, model_cache())
    await _published(api, clock, say)
    prefetch_s = clock.now_s() - began_s
    warm_s = await _start_and_stop(api, clock)
    say(f"  the same replica again, on the same node: ready after {warm_s:.1f} s instead of {cold_s:.1f} s")
    return WarmStart(model_bytes=MODEL_BYTES, cold_s=cold_s, prefetch_s=prefetch_s, warm_s=warm_s)


async def _start_and_stop(api: ObjectApi, clock: Clock) -> float:
    """Seconds from the InferenceService to its ready pod; the pod is gone afterwards."""
    began_s = clock.now_s()
    await api.create(INFERENCE_SERVICES, cached_service())
    await _until(clock, lambda: _has_ready_pod(api), "a ready replica")
    took_s = clock.now_s() - began_s
    await api.delete(INFERENCE_SERVICES, NAMESPACE, CACHED_SERVICE)
    await _until(clock, lambda: _has_no_pod(api), "the replica to go")
    return took_s


async def _published(api: ObjectApi, clock: Clock, say: Say) -> None:
    """Tell how the nodes get on until both hold the model."""
    due_s, told, told_s = clock.now_s() + WITHIN_S, "", 0.0
    while True:
        states = await _states(api)
        is_done = [state.startswith("Ready") for state in states.values()] == [True] * len(CACHE_NODES)
        text = ", ".join(f"{node} {state}" for node, state in sorted(states.items()))
        if text != told and (is_done or clock.now_s() - told_s >= TOLD_EVERY_S):
            say(f"  {text}")
            told, told_s = text, clock.now_s()
        if is_done:
            return
        if clock.now_s() > due_s:
            raise DemoError(
                f"the model was not on {' and '.join(CACHE_NODES)} within {WITHIN_S:g} s: {text or 'no word'}"
            )
        await clock.sleep(LOOK_S)


async def _states(api: ObjectApi) -> dict[str, str]:
    """What each node's agent says of the model."""
    found = await api.list(NODE_MODEL_CACHES)
    models = {obj["metadata"]["name"]: (obj.get("status") or {}).get("models") or [] for obj in found}
    return {node: _state(own[0]) for node, own in models.items() if own}


def _state(model: Object) -> str:
    if model["phase"] == "Ready":
        return "Ready, verified and published"
    reason = f" ({model['reason']})" if model.get("reason") else ""
    if model["phase"] == "Fetching":
        return f"Fetching {100 * model.get('fetchedBytes', 0) / max(1, model['bytes']):.0f} %{reason}"
    return f"{model['phase']}{reason}"


async def _until(clock: Clock, holds: Callable[[], Awaitable[bool]], what: str) -> None:
    due_s = clock.now_s() + WITHIN_S
    while not await holds():
        if clock.now_s() > due_s:
            raise DemoError(f"waited {WITHIN_S:g} s for {what} in vain; the logs are in the demo's folder")
        await clock.sleep(LOOK_S)


async def _pods(api: ObjectApi) -> list[Object]:
    found = await api.list(PODS, NAMESPACE)
    return [pod for pod in found if pod["metadata"]["name"].startswith(f"{CACHED_SERVICE}-")]


async def _has_ready_pod(api: ObjectApi) -> bool:
    conditions = [one for pod in await _pods(api) for one in (pod.get("status") or {}).get("conditions") or []]
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


async def _has_no_pod(api: ObjectApi) -> bool:
    return not await _pods(api)
