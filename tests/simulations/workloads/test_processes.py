"""Containers that are real processes: started at an address, probed, ended with all their children."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from metrics.clock import WallClock
from simulations.cluster.workloads.addresses import LoopbackAddresses
from simulations.cluster.workloads.errors import ContainerError
from simulations.cluster.workloads.process_runtime import ProcessRuntime

pytestmark = pytest.mark.cluster

POD = {
    "metadata": {"namespace": "default", "name": "llm-1"},
    "spec": {
        "containers": [{"name": "c", "image": "i", "args": ["--model=m"], "env": [{"name": "WORD", "value": "v"}]}]
    },
}
SERVER = """
import http.server, os, signal, subprocess, sys
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
print("args", sys.argv[1:], os.environ["WORD"], flush=True)
hears = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: print('child heard it', flush=True)); "
child = subprocess.Popen([sys.executable, "-S", "-c", hears + "time.sleep(600)"])
print("child", child.pid, flush=True)
if sys.argv[3] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
http.server.HTTPServer((sys.argv[1], int(sys.argv[2])), Page).serve_forever()
"""


def runtime(logs: Path, *words: str) -> ProcessRuntime:
    return ProcessRuntime([sys.executable, "-c", SERVER, "{ip}", "{port}", *words], WallClock(), logs)


def runs(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


async def is_gone(pid: int) -> bool:
    """Whether a process has ended, once the system had a moment to take it down."""
    for _ in range(500):
        if not runs(pid):
            return True
        await asyncio.sleep(0.01)
    return False


def child_of(log: Path) -> int:
    return int(log.read_text(encoding="utf-8").split("child ")[1].split()[0])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc to see which processes are left")
@pytest.mark.parametrize("manner", ["polite", "stubborn"])
async def test_a_process_serves_until_it_is_told_to_stop_and_its_children_go_with_it(
    tmp_path: Path, manner: str
) -> None:
    address = LoopbackAddresses(seed=os.getpid()).take(8080)
    container = await runtime(tmp_path, manner, '{"a": "{model}"}', "{args}").start(
        POD, ip=address.ip, port=address.port
    )
    await container.wait_ready()
    log = tmp_path / "default_llm-1.log"

    await container.terminate(0.2)

    assert container.exited.is_set()
    assert f"""args ['{address.ip}', '{address.port}', '{manner}', '{{"a": "m"}}', '--model=m'] v""" in log.read_text(
        encoding="utf-8"
    )
    assert await is_gone(child_of(log))
    assert "child heard it" not in log.read_text(encoding="utf-8")  # as in a container: the first process alone is told


async def test_a_process_that_ends_before_it_answers_is_an_error(tmp_path: Path) -> None:
    crashing = ProcessRuntime([sys.executable, "-S", "-c", "raise SystemExit(3)"], WallClock(), tmp_path)
    container = await crashing.start(POD, ip="127.0.0.1", port=9)

    with pytest.raises(ContainerError, match="exited with 3"):
        await container.wait_ready()


async def test_a_command_that_does_not_exist_is_an_error() -> None:
    missing = ProcessRuntime(["/no/such/server"], WallClock())

    with pytest.raises(ContainerError, match=r"llm-1: cannot start /no/such/server"):
        await missing.start(POD, ip="127.0.0.1", port=9)
