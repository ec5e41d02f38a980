"""The embedded cluster as a process: API server, workload controllers, KServe stand-in, vLLM servers.

`python -m simulations.demo.cluster --folder DIR --seconds N` writes `admin.kubeconfig` and `controller.kubeconfig`
into DIR, then `cluster.ready`. SIGTERM ends it. The servers are emulated, with start-ups as compressed as the
demo; with `--vllm VENV` they are real ones, each a process that takes what it takes.
"""

import argparse
import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from autoscaler.permissions import NAMESPACE as CONTROLLER_NAMESPACE
from autoscaler.permissions import SERVICE_ACCOUNT
from metrics.clock import WallClock
from simulations.cluster.apiserver.rbac import User
from simulations.cluster.apiserver.server import ApiServer
from simulations.cluster.kserve.controller import KServe
from simulations.cluster.real_vllm import serve_command, write_model
from simulations.cluster.vllm.runtime import EmulatorRuntime
from simulations.cluster.workloads.cluster import Workloads
from simulations.cluster.workloads.process_runtime import ProcessRuntime
from simulations.cluster.workloads.runtime import ContainerRuntime
from simulations.cluster.workloads.startup import FixedStartup, StartupModel
from simulations.cluster.workloads.weights import NodeFolders, WeightStore
from simulations.demo.caches import NODES
from simulations.demo.objects import AGENT_ACCOUNT, GPU_PRODUCT, nodes
from simulations.demo.setting import COLD_WEIGHTS_S, IMAGE_PULL_S, LOAD_S, SECONDS_DEFAULT, WARM_WEIGHTS_S, Setting

ADMIN_KUBECONFIG, CONTROLLER_KUBECONFIG, READY = "admin.kubeconfig", "controller.kubeconfig", "cluster.ready"
AGENT_KUBECONFIG = "agent.kubeconfig"


def startup_of(setting: Setting) -> FixedStartup:
    """Start-up phases, compressed like everything else."""
    return FixedStartup(
        image_pull_s=setting.compressed_s(IMAGE_PULL_S),
        cold_weights_s=setting.compressed_s(COLD_WEIGHTS_S),
        warm_weights_s=setting.compressed_s(WARM_WEIGHTS_S),
        load_s=setting.compressed_s(LOAD_S),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """What runs in the pods, and what a start takes beside the server's own."""

    runtime: ContainerRuntime
    startup: StartupModel
    node_class: str  # what lead times are learned by


@asynccontextmanager
async def emulated(setting: Setting) -> AsyncIterator[Engines]:
    """Emulated servers within this process."""
    async with EmulatorRuntime(clock=WallClock()) as runtime:
        yield Engines(runtime=runtime, startup=startup_of(setting), node_class=GPU_PRODUCT)


@asynccontextmanager
async def real(venv: Path, folder: Path) -> AsyncIterator[Engines]:
    """A process of a real vLLM per pod, its output in the folder."""
    model = write_model(folder / "model")
    command = serve_command(venv, model, host="{ip}", port="{port}", limits=["{args}"])
    runtime = ProcessRuntime(command, WallClock(), folder / "pods")
    yield Engines(runtime=runtime, startup=FixedStartup(), node_class="CPU")


async def serve(
    engines: AbstractAsyncContextManager[Engines], folder: Path, weights: WeightStore | None = None
) -> None:
    """Run everything until cancelled; say so in the folder once it can be used."""
    clock = WallClock()
    accounts = {CONTROLLER_KUBECONFIG: SERVICE_ACCOUNT, AGENT_KUBECONFIG: AGENT_ACCOUNT}
    tokens = {name: secrets.token_urlsafe(24) for name in accounts}
    users = {tokens[name]: User.service_account(CONTROLLER_NAMESPACE, account) for name, account in accounts.items()}
    async with ApiServer(tokens=users, clock=clock) as server, engines as run:
        kserve = KServe(server.api, clock=clock)
        await kserve.install()
        server.write_kubeconfig(folder / ADMIN_KUBECONFIG)
        for name, token in tokens.items():
            server.write_kubeconfig(folder / name, token)
        async with asyncio.TaskGroup() as group:
            group.create_task(kserve.run())
            machines = nodes(run.node_class)
            group.create_task(Workloads(server.api, machines, run.runtime, clock, run.startup, weights).run())
            (folder / READY).write_text(f"{server.url}\n", encoding="utf-8")


async def serve_until_told(
    engines: AbstractAsyncContextManager[Engines], folder: Path, weights: WeightStore | None = None
) -> None:
    """Serve; SIGTERM or SIGINT is a normal end."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve(engines, folder, weights))
        await told.wait()
        serving.cancel()


def main(arguments: Sequence[str]) -> int:
    """Run the cluster of one demo."""
    parser = argparse.ArgumentParser(prog="python -m simulations.demo.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where to write kubeconfigs")
    parser.add_argument(
        "--seconds", type=float, default=SECONDS_DEFAULT, help="length of the demo: start-ups shrink with it"
    )
    parser.add_argument("--vllm", type=Path, metavar="VENV", help="run the real servers of this venv in the pods")
    parser.add_argument("--hub", metavar="URL", help="where pods fetch weights whose node has none")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    engines = real(options.vllm, options.folder) if options.vllm else emulated(Setting(seconds=options.seconds))
    weights = NodeFolders(root=options.folder / NODES, hub=options.hub) if options.hub else None
    asyncio.run(serve_until_told(engines, options.folder, weights))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
