"""What the benchmarks on a real control plane share: how they get into one, what it needs, what the controller used."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from figures import Figure, MissingPartError

from autoscaler.permissions import NAMESPACE
from metrics.clock import WallClock
from metrics.exposition import parse
from simulations.cluster.api import CRDS, NAMESPACES, NODES, SCALING_POLICIES, ApiError, Resource
from simulations.cluster.http_api import HttpApi
from simulations.cluster.kserve import KServe
from simulations.cluster.workloads.nodes import NodeSpec, node_object

ROOT = Path(__file__).parents[2]
CONTROL_PLANE = ROOT / "tests" / "controlplane"
SPACE = "bench"
GPUS_PER_NODE = 64
# Pods have loopback addresses, which EndpointSlices may not hold: their controllers would fail for ever.
NO_ENDPOINTS = (
    "kube-controller-manager:--controllers=-endpointslice-controller,-endpoints-controller,"
    "-endpointslice-mirroring-controller"
)
POD_ADDRESSES = "127.64.0.1/14"
READY_WITHIN_S = 30.0
LOOK_S = 0.05
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
Object = dict[str, Any]


def binaries() -> Path:
    """The folder of the control plane's programs."""
    where = subprocess.run([CONTROL_PLANE / "build.sh", "--where"], capture_output=True, text=True, check=True)
    return Path(where.stdout.strip())


def require(folder: Path, programs: Sequence[str], how: str) -> None:
    """MissingPartError where a program has not been built."""
    missing = [name for name in programs if not (folder / name).exists()]
    if missing:
        raise MissingPartError(f"{', '.join(missing)} not found in {folder}: {how}")


def inside(script: str, *arguments: str, flags: Sequence[str] = ()) -> list[Figure]:
    """Run a benchmark's script within a control plane of its own; it writes its figures to the file it is told."""
    parts = ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"]
    require(binaries(), parts, "`make apiserver` builds them (about 12 minutes, once)")
    with tempfile.TemporaryDirectory(prefix="warmtide-bench-") as folder:
        out = Path(folder) / "figures.json"
        plane = [sys.executable, str(CONTROL_PLANE / "plane.py"), "--controllers"]
        chosen = [word for flag in flags for word in ("--flag", flag)]
        command = [sys.executable, script, str(out), *arguments]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        with subprocess.Popen([*plane, *chosen, "--", *command], env=environment) as running:
            try:
                code = running.wait()
            finally:
                running.terminate()  # nothing is sent to one that has ended
        if code != 0:
            raise RuntimeError(f"{Path(script).name} ended with {code}; its last words are above")
        return [Figure(**row) for row in json.loads(out.read_text(encoding="utf-8"))]


def write_figures(out: Path, figures: Sequence[Figure]) -> None:
    """For `inside` to read."""
    out.write_text(json.dumps([asdict(figure) for figure in figures]), encoding="utf-8")


def until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end; SIGTERM cancels, so that no program stays behind."""

    async def cancelled_by_signal() -> None:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        await task

    asyncio.run(cancelled_by_signal())


def kubeconfig() -> Path:
    """Of the plane that we are inside."""
    return Path(os.environ["KUBECONFIG"])


@asynccontextmanager
async def child(name: str, *command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A program that runs until the block ends; its last words are told when it died before."""
    log = Path(os.environ["WARMTIDE_PLANE_HOME"]) / f"bench-{name}.log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out, cwd=ROOT)
    try:
        yield process
    except BaseException:
        sys.stderr.write(f"{name}: …{log.read_text(errors='replace')[-1500:]}\n")
        raise
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        if keep := os.environ.get("WARMTIDE_BENCH_LOGS"):
            shutil.copy(log, keep)


async def install(api: HttpApi, policy: Object) -> None:
    """Our CRDs and KServe's, the namespaces, one policy named gold."""
    for name in ("scalingpolicies", "scaledservices"):
        file = ROOT / "manifests" / "crds" / f"{name}.warmtide.dev.yaml"
        await api.create(CRDS, yaml.safe_load(file.read_text(encoding="utf-8")))
    for name in (NAMESPACE, SPACE):
        await api.create(NAMESPACES, {"metadata": {"name": name}})
    await KServe(api).install()
    await until_served(api, SCALING_POLICIES)
    await api.create(SCALING_POLICIES, {"metadata": {"name": "gold", "namespace": SPACE}, "spec": policy})


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = READY_WITHIN_S) -> None:
    """Look until it holds; TimeoutError when it does not."""
    clock = WallClock()
    due_s = clock.now_s() + within_s
    while not await condition():
        if clock.now_s() > due_s:
            raise TimeoutError(f"not within {within_s:g} s: {condition.__qualname__}")
        await clock.sleep(LOOK_S)


async def until_served(api: HttpApi, resource: Resource) -> None:
    """A new CRD takes a moment."""

    async def is_served() -> bool:
        with suppress(ApiError):
            await api.list(resource)
            return True
        return False

    await until(is_served)


@asynccontextmanager
async def kwok(api: HttpApi, nodes: int) -> AsyncIterator[None]:
    """Nodes with GPUs, and kwok, which plays their kubelets."""
    for index in range(nodes):
        name = f"gpu-{index:03d}"
        spec = NodeSpec(name=name, gpus=GPUS_PER_NODE, gpu_product="NVIDIA-H100-80GB-HBM3", cpus=1024)
        await api.create(NODES, node_object(spec))
        # Admission taints new nodes as not ready, and the plane runs no controller that would take that back.
        await api.patch(NODES, "", name, {"spec": {"taints": None}})
    flags = ("--manage-all-nodes", f"--cidr={POD_ADDRESSES}", "--node-lease-duration-seconds=0")
    stages = f"--config={CONTROL_PLANE / 'kwok' / 'stages.yaml'}"
    async with child("kwok", str(binaries() / "kwok"), f"--kubeconfig={kubeconfig()}", *flags, stages):
        yield


def machine_busy_s() -> float:
    """What all cores of this machine have worked so far, for whomever."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = map(int, fields[1:8])
    return (user + nice + system + irq + softirq) / _TICKS_PER_S


class Controller:
    """The controller's process, and what it used."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    def cpu_s(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    def memory_mb(self, line: str) -> float:
        """`VmRSS` now, `VmHWM` at its highest."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return next(int(row.split()[1]) / 1024 for row in status.splitlines() if row.startswith(line))

    async def writes(self) -> float:
        """What it asked the API server to change, so far."""
        families = parse(await self.page())
        series = [one for family in families for one in family.series if one.name == "warmtide_api_requests_total"]
        return sum(one.value for one in series if dict(one.labels).get("verb", "").upper() in _WRITES)

    async def page(self) -> str:
        """Its own metrics."""
        log = Path(os.environ["WARMTIDE_PLANE_HOME"]) / "bench-controller.log"
        found = re.search(r"listening on (127\.0\.0\.1:\d+)", log.read_text(encoding="utf-8"))
        if found is None:
            return ""
        async with aiohttp.ClientSession() as session, session.get(f"http://{found[1]}/metrics") as response:
            return await response.text()

    async def until_leading(self) -> None:
        """It may write from now on."""

        async def is_leading() -> bool:
            return "warmtide_leader 1" in await self.page()

        await until(is_leading)


@asynccontextmanager
async def controller() -> AsyncIterator[Controller]:
    """A real controller process on the plane."""
    flags = ("--kubeconfig", str(kubeconfig()), "--lease-namespace", NAMESPACE, "--listen", "127.0.0.1:0")
    async with child("controller", sys.executable, "-m", "autoscaler", *flags) as process:
        running = Controller(process)
        await running.until_leading()
        yield running


async def follow_kserve() -> None:
    """KServe's stand-in, in a process of its own."""
    async with HttpApi.from_kubeconfig(kubeconfig()) as api:
        await KServe(api).run()


if __name__ == "__main__":
    asyncio.run(follow_kserve())
