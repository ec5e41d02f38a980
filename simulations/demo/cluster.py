"""The embedded cluster as a process: API server, workload controllers, KServe stand-in, emulated vLLM servers.

`python -m simulations.demo.cluster --folder DIR --seconds N` writes `admin.kubeconfig` and `controller.kubeconfig`
into DIR, then `cluster.ready`. SIGTERM ends it.
"""

import argparse
import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from autoscaler.permissions import NAMESPACE as CONTROLLER_NAMESPACE
from autoscaler.permissions import SERVICE_ACCOUNT
from metrics.clock import WallClock
from simulations.cluster.apiserver.rbac import User
from simulations.cluster.apiserver.server import ApiServer
from simulations.cluster.kserve.controller import KServe
from simulations.cluster.vllm.runtime import EmulatorRuntime
from simulations.cluster.workloads.cluster import Workloads
from simulations.cluster.workloads.startup import FixedStartup
from simulations.demo.objects import nodes
from simulations.demo.setting import COLD_WEIGHTS_S, IMAGE_PULL_S, LOAD_S, WARM_WEIGHTS_S, Setting

ADMIN_KUBECONFIG, CONTROLLER_KUBECONFIG, READY = "admin.kubeconfig", "controller.kubeconfig", "cluster.ready"


def startup_of(setting: Setting) -> FixedStartup:
    """Start-up phases, compressed like everything else."""
    return FixedStartup(
        image_pull_s=setting.compressed_s(IMAGE_PULL_S),
        cold_weights_s=setting.compressed_s(COLD_WEIGHTS_S),
        warm_weights_s=setting.compressed_s(WARM_WEIGHTS_S),
        load_s=setting.compressed_s(LOAD_S),
    )


async def serve(setting: Setting, folder: Path) -> None:
    """Run everything until cancelled; say so in the folder once it can be used."""
    clock = WallClock()
    token = secrets.token_urlsafe(24)
    account = User.service_account(CONTROLLER_NAMESPACE, SERVICE_ACCOUNT)
    async with ApiServer(tokens={token: account}, clock=clock) as server, EmulatorRuntime(clock=clock) as runtime:
        kserve = KServe(server.api, clock=clock)
        await kserve.install()
        server.write_kubeconfig(folder / ADMIN_KUBECONFIG)
        server.write_kubeconfig(folder / CONTROLLER_KUBECONFIG, token)
        async with asyncio.TaskGroup() as group:
            group.create_task(kserve.run())
            group.create_task(Workloads(server.api, nodes(), runtime, clock, startup_of(setting)).run())
            (folder / READY).write_text(f"{server.url}\n", encoding="utf-8")


async def serve_until_told(setting: Setting, folder: Path) -> None:
    """Serve; SIGTERM or SIGINT is a normal end."""
    loop = asyncio.get_running_loop()
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(serve(setting, folder))
        await told.wait()
        serving.cancel()


def main(arguments: Sequence[str]) -> int:
    """Run the cluster of one demo."""
    parser = argparse.ArgumentParser(prog="python -m simulations.demo.cluster", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where to write kubeconfigs")
    parser.add_argument("--seconds", type=float, required=True, help="length of the demo: start-ups shrink with it")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    asyncio.run(serve_until_told(Setting(seconds=options.seconds), options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
