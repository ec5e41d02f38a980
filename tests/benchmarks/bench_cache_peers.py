"""Two agents, one model of 512 MB: what the origin sends when both ask at once, and how soon the second node has it.

Once in 4 files, which end at the same time, and once in 32, which the second node takes while the others still come.

Both are processes of their own; the hub and the API server live in this one. The line to the origin is limited as a
WAN is, the one between the agents is not. Memory is the highest that the kernel saw of each agent (VmHWM).
"""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from figures import Figure

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from cacheops.crds import all_crds  # noqa: E402  (the path comes first)
from cacheops.model import ModelRef  # noqa: E402
from cacheops.sources import AddressRules, SourceSettings, open_source  # noqa: E402
from metrics.clock import WallClock  # noqa: E402
from simulations import hub as hubs  # noqa: E402
from simulations.cluster.api import CRDS, Resource  # noqa: E402
from simulations.cluster.apiserver import ApiServer  # noqa: E402
from simulations.cluster.http_api import HttpApi  # noqa: E402

Object = dict[str, Any]

MB = 1_000_000
MODEL_MB = 512
FILES = {"later": 4, "together": 4, "shards": 32}
ORIGIN_BYTES_PER_S = 2.5 * MB  # of each of eight connections: 20 MB/s, far below what any disk takes
NODES = ("node-1", "node-2")
ONE_FETCH_MAX = 1.05
RSS_MB_MAX = 300
WAIT_S = 300.0
LIMITS = {"highWatermark": 0.95, "lowWatermark": 0.94}  # whatever else fills the disk of this machine
LOG_LINES = 40  # of an agent that ended: a traceback and what came before it
CACHES = Resource("warmtide.dev", "v1alpha1", "nodemodelcaches", "NodeModelCache", namespaced=False)
KUBELET_MOUNT = "30 25 98:0 /var/lib/kubelet/pods /var/lib/kubelet/pods ro - ext4 /dev/x ro\n"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the agents live."""

    folder: Path
    api: HttpApi
    hub: hubs.ModelHub
    endpoint: str
    kubeconfig: Path
    agents: dict[str, Process] = field(default_factory=dict)  # by node

    @property
    def hosts(self) -> tuple[str, str]:
        port = self.endpoint.rpartition(":")[2]
        return f"127.0.0.1:{port}", f"localhost:{port}"


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="warmtide-bench-") as place:
        folder = Path(place)
        try:
            return asyncio.run(_run(folder))
        finally:
            for inner, _, _ in os.walk(folder):
                os.chmod(inner, 0o700)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(exist_ok=True)


async def _run(folder: Path) -> list[Figure]:
    size_bytes = MODEL_MB * MB
    for name, files in FILES.items():
        make_model(folder / "hub" / "org" / name, files)
    async with cluster(folder) as place, AsyncExitStack() as stack:
        agents = [await stack.enter_async_context(agent(place, node)) for node in NODES]
        for node in NODES:
            await until(place, node, lambda status: "address" in status)
        [first] = await order(place, "org/later", NODES[:1])
        sent = place.hub.settings.sent_bytes
        busy_s = [cpu_s(process) for process in agents]
        [second] = await order(place, "org/later", NODES[1:])
        gave_s, took_s = (cpu_s(process) - before for process, before in zip(agents, busy_s, strict=True))
        later_ratio = (place.hub.settings.sent_bytes - sent) / size_bytes
        sent = place.hub.settings.sent_bytes
        both = await order(place, "org/together", NODES)
        ratio = (place.hub.settings.sent_bytes - sent) / size_bytes
        sent = place.hub.settings.sent_bytes
        shards = await order(place, "org/shards", NODES)
        shards_ratio = (place.hub.settings.sent_bytes - sent) / size_bytes
        rss_mb = max(peak_mb(process) for process in agents)
    return [
        Figure(name="cache_peers_origin_bytes", value=ratio, unit="models", bar=ONE_FETCH_MAX, better="lower"),
        Figure(name="cache_peers_origin_bytes_later", value=later_ratio, unit="models", bar=0.05, better="lower"),
        Figure(name="cache_peers_from_origin", value=first, unit="s"),
        Figure(name="cache_peers_from_peer", value=second, unit="s"),
        Figure(name="cache_peers_speedup", value=first / second, unit="ratio", bar=2.0),
        Figure(name="cache_peers_giver_cpu", value=gave_s * 1e9 / size_bytes, unit="s/GB"),
        Figure(name="cache_peers_taker_cpu", value=took_s * 1e9 / size_bytes, unit="s/GB"),
        Figure(name="cache_peers_both", value=max(both), unit="s"),
        Figure(name="cache_peers_second_after_first", value=max(both) - min(both), unit="s"),
        Figure(name="cache_peers_shards_both", value=max(shards), unit="s"),
        Figure(name="cache_peers_shards_second_after_first", value=max(shards) - min(shards), unit="s"),
        Figure(
            name="cache_peers_shards_origin_bytes", value=shards_ratio, unit="models", bar=ONE_FETCH_MAX, better="lower"
        ),
        Figure(name="cache_peers_rss", value=rss_mb, unit="MB", bar=RSS_MB_MAX, better="lower"),
    ]


def make_model(folder: Path, files: int) -> None:
    folder.mkdir(parents=True)
    for number in range(files):
        with (folder / f"model-{number}.safetensors").open("wb") as file:
            for _ in range(MODEL_MB // files):
                file.write(os.urandom(MB))


@asynccontextmanager
async def cluster(folder: Path) -> AsyncIterator[Place]:
    hub = hubs.ModelHub(folder / "hub", hubs.HubSettings(bytes_per_s=ORIGIN_BYTES_PER_S))
    (folder / "mounts").write_text(KUBELET_MOUNT, encoding="utf-8")
    (folder / "token").write_text(os.urandom(24).hex() + "\n", encoding="ascii")
    runner, endpoint = await hubs.serve(hub)
    try:
        async with ApiServer() as server:
            kubeconfig = server.write_kubeconfig(folder / "kubeconfig")
            async with HttpApi.from_kubeconfig(kubeconfig) as api:
                for crd in all_crds():
                    await api.create(CRDS, crd)
                for node in NODES:
                    await api.create(CACHES, {"metadata": {"name": node}, "spec": {"models": [], "limits": LIMITS}})
                yield Place(folder=folder, api=api, hub=hub, endpoint=endpoint, kubeconfig=kubeconfig)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def agent(place: Place, node: str) -> AsyncIterator[Process]:
    folder = place.folder
    command = [sys.executable, "-m", "nodeagent", "--node", node, "--root", str(folder / node), "--claim"]
    command += ["--kubeconfig", str(place.kubeconfig), "--mount-table", str(folder / "mounts"), "--no-kserve"]
    command += ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--peer-token-file", str(folder / "token")]
    command += ["--peer-bytes-per-second", "0", "--own-disk"]
    command += [word for host in place.hosts for word in ("--allow-host", host)]
    environment = os.environ | {"HF_ENDPOINT": place.endpoint, "PYTHONPATH": str(ROOT)}
    with (folder / f"{node}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=log, cwd=folder)
        place.agents[node] = process
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await process.wait()


async def order(place: Place, name: str, nodes: tuple[str, ...]) -> list[float]:
    """Want a model on nodes at once; seconds until each of them holds it."""
    uri = f"hf://{name}"
    wanted = await asyncio.to_thread(as_wanted, place, uri)
    began_s = time.monotonic()
    for node in nodes:
        await place.api.patch(CACHES, "", node, {"spec": {"models": [wanted]}})

    async def held_s(node: str) -> float:
        await until(place, node, lambda status: ready(status, wanted["key"]))
        return time.monotonic() - began_s

    return list(await asyncio.gather(*map(held_s, nodes)))


def as_wanted(place: Place, uri: str) -> Object:
    settings = SourceSettings(rules=AddressRules(hosts=frozenset(place.hosts)), hub_endpoint=place.endpoint)
    found = open_source(uri, settings, WallClock()).resolve(ModelRef(uri=uri))
    fixed = {"revision": found.resolved_revision, "digest": found.digest, "bytes": found.bytes}
    return {"key": found.storage_key, "uri": uri} | fixed


def ready(status: Object, key: str) -> bool:
    return any(model["key"] == key and model["phase"] == "Ready" for model in status.get("models", ()))


async def until(place: Place, node: str, holds: Any) -> None:
    """Wait for what a node's agent says; an agent that ends, or never says so, is shown with its last words."""
    began_s, status = time.monotonic(), {}
    while time.monotonic() - began_s < WAIT_S:
        status = (await place.api.get(CACHES, "", node)).get("status") or {}
        if holds(status):
            return
        for name, process in place.agents.items():
            if process.returncode is not None:
                raise RuntimeError(f"agent {name} ended with {process.returncode}:\n{last_words(place, name)}")
        await asyncio.sleep(0.1)
    raise TimeoutError(f"node {node} after {WAIT_S:g} s: {status.get('models')}\n{last_words(place, node)}")


def last_words(place: Place, node: str) -> str:
    lines = (place.folder / f"{node}.log").read_text(encoding="utf-8", errors="replace").splitlines()
    return "\n".join(lines[-LOG_LINES:])


def cpu_s(process: Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_mb(process: Process) -> float:
    lines = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / MB


if __name__ == "__main__":
    for figure in run():
        print(figure.line())
