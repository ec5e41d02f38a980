"""A real Prometheus on loopback, where one is installed: over a history written for it, and over what it scrapes."""

import asyncio
import json
import shutil
import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from metrics.clock import Clock
from simulations.errors import SimulationError

PROGRAMS = ("prometheus", "promtool")  # Debian's package `prometheus` has both
DATA = "data"
UP_WITHIN_S = 30.0
LOOK_S = 0.1
KEPT = "100y"  # a test's history may be of any time


def is_installed() -> bool:
    """Whether both programs are on PATH."""
    return all(shutil.which(program) for program in PROGRAMS)


def scraping(targets: Mapping[str, str], *, period_ms: int = 250) -> str:
    """Configuration that scrapes each pod (its name → HOST:PORT/PATH) in namespace `ns`."""
    jobs = [
        {"targets": [host], "labels": {"namespace": "ns", "pod": pod, "__metrics_path__": f"/{path}"}}
        for pod, (host, _, path) in ((pod, address.partition("/")) for pod, address in targets.items())
    ]
    period = f"{period_ms}ms"
    return json.dumps(  # which is YAML too
        {
            "global": {"scrape_interval": period, "scrape_timeout": period},
            "scrape_configs": [{"job_name": "vllm", "static_configs": jobs}],
        }
    )


async def promtool(*arguments: str, folder: Path | None = None, given: bytes = b"") -> str:
    """Run promtool and return all it said; an error where it is not content."""
    process = await asyncio.create_subprocess_exec(
        "promtool",
        *arguments,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate(given)
    if process.returncode != 0:
        raise SimulationError(f"promtool {' '.join(arguments)} ended with {process.returncode}:\n{said.decode()}")
    return said.decode()


async def write_history(folder: Path, lines: Iterable[str]) -> None:
    """OpenMetrics lines with timestamps become blocks of the Prometheus of this folder."""
    text = "".join(f"{line}\n" for line in (*lines, "# EOF"))
    await asyncio.to_thread((folder / "history.om").write_text, text)
    await promtool("tsdb", "create-blocks-from", "openmetrics", "history.om", DATA, folder=folder)


@asynccontextmanager
async def prometheus(folder: Path, clock: Clock, *, config: str = "{}\n") -> AsyncIterator[str]:
    """Run it over the folder for the length of a block; its URL."""
    (folder / "prometheus.yml").write_text(config, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    storage = (f"--storage.tsdb.path={DATA}", f"--storage.tsdb.retention.time={KEPT}")
    process = await asyncio.create_subprocess_exec(
        *("prometheus", "--config.file=prometheus.yml", *storage, f"--web.listen-address={address}"),
        "--log.level=error",
        cwd=folder,
    )
    try:
        await _wait_ready(process, f"http://{address}/-/ready", clock)
        yield f"http://{address}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _wait_ready(process: asyncio.subprocess.Process, url: str, clock: Clock) -> None:
    async with asyncio.timeout(UP_WITHIN_S), aiohttp.ClientSession() as session:
        while True:
            if process.returncode is not None:
                raise SimulationError(f"Prometheus ended with {process.returncode} before {url} answered")
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await clock.sleep(LOOK_S)
