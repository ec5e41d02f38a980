"""A model of 4 GiB from a hub on loopback: fetched, hashed, synced and published, beside tools that only fetch.

All fetch the same files from the same server process, in turns, each into a fresh folder on the same disk; the best
of the rounds counts, because other processes share the machine. `sha256sum -c` is what the others need on top.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from figures import Figure

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
FILES = 4
FILE_MIB = int(os.environ.get("WARMTIDE_BENCH_FILE_MIB", "1024"))
ROUNDS = 2
MIB = 1 << 20
MODEL = "org/large"


@dataclass
class Bench:
    """One server, one scratch folder, and how long each tool took."""

    scratch: Path
    endpoint: str
    names: list[str]
    sums: str
    took_s: dict[str, list[float]] = field(default_factory=dict)
    rss_bytes: dict[str, int] = field(default_factory=dict)
    cpu_s: dict[str, float] = field(default_factory=dict)

    def time(self, tool: str, command: list[str], folder: Path) -> None:
        """Run one tool from a standing start; its own memory and processor time come from wait4."""
        env = os.environ | {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "PYTHONPATH": str(ROOT),
        }
        os.sync()  # the disk is not still busy with the tool before
        started_s = time.monotonic()
        log = (self.scratch / "log").open("w+")
        child = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=log)
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise RuntimeError(f"{tool} ended with {child.returncode}: {(self.scratch / 'log').read_text()[-500:]}")
        self.took_s.setdefault(tool, []).append(time.monotonic() - started_s)
        self.rss_bytes[tool] = max(self.rss_bytes.get(tool, 0), usage.ru_maxrss * 1024)
        self.cpu_s[tool] = usage.ru_utime + usage.ru_stime

    def warm_up(self) -> None:
        """The hub computes its digests at the first listing, which is nobody's download."""
        urllib.request.urlopen(f"{self.endpoint}/api/models/{MODEL}", timeout=300).close()

    def best_s(self, tool: str) -> float:
        return min(self.took_s[tool])


def run() -> list[Figure]:
    """Serve, fetch in turns, compare."""
    with tempfile.TemporaryDirectory(prefix="warmtide-bench-") as place:
        scratch = Path(place)
        names, sums = make_model(scratch / "hub" / MODEL)
        command = [sys.executable, "-m", "simulations.hub", str(scratch / "hub")]
        server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            bench = Bench(scratch, server.stdout.readline().strip(), names, sums)
            bench.warm_up()
            for _ in range(ROUNDS):
                for tool, measure in TOOLS.items():
                    in_fresh_folder(bench, tool, measure)
            return figures(bench)
        finally:
            server.terminate()
            server.wait()


def make_model(folder: Path) -> tuple[list[str], str]:
    """Files that do not compress, no two blocks alike, and their checksum file."""
    folder.mkdir(parents=True)
    lines, noise = [], os.urandom(MIB)
    for number in range(FILES):
        name, digest = f"model-{number}.safetensors", hashlib.sha256()
        with (folder / name).open("wb") as file:
            for block in range(FILE_MIB):
                data = block.to_bytes(8, "big") + number.to_bytes(8, "big") + noise[16:]
                file.write(data)
                digest.update(data)
        lines.append(f"{digest.hexdigest()}  {name}\n")
    return [line.split()[1] for line in lines], "".join(lines)


def in_fresh_folder(bench: Bench, tool: str, measure: Callable[[Bench, str, Path], None]) -> None:
    """One tool, one folder, deleted afterwards: a full disk would measure something else."""
    folder = bench.scratch / "work"
    folder.mkdir()
    try:
        measure(bench, tool, folder)
    finally:
        for inner, _, _ in os.walk(folder):
            os.chmod(inner, 0o700)
        shutil.rmtree(folder)


def warmtide(bench: Bench, tool: str, folder: Path) -> None:
    hosts = ["--allow-host", "127.0.0.1", "--allow-host", "localhost"]
    line = ["-m", "warmtide", "cache", "prefetch", "cache", f"hf://{MODEL}", *hosts, "--workers", "4"]
    bench.time(tool, [sys.executable, *line], folder)
    held = sum(path.stat().st_size for path in (folder / "cache" / "models").glob("*/*.safetensors"))
    if held != FILES * FILE_MIB * MIB:
        raise RuntimeError(f"{held} bytes are published")


def hf(bench: Bench, tool: str, folder: Path) -> None:
    bench.time(tool, [str(BIN / "hf"), "download", MODEL, "--local-dir", "model"], folder)


def curl(bench: Bench, tool: str, folder: Path) -> None:
    """Fetch, then check, each with its own time."""
    files = [word for name in bench.names for word in ("-O", f"{bench.endpoint}/{MODEL}/resolve/main/{name}")]
    bench.time(tool, ["curl", "--silent", "--fail", "--location", "--parallel", *files], folder)
    (folder / "SHA256SUMS").write_text(bench.sums, encoding="ascii")
    bench.time("sha256sum", ["sha256sum", "--check", "--quiet", "SHA256SUMS"], folder)


TOOLS: dict[str, Callable[[Bench, str, Path], None]] = {"warmtide": warmtide, "hf": hf}
if shutil.which("curl"):
    TOOLS["curl"] = curl


def figures(bench: Bench) -> list[Figure]:
    """Ratios of throughput, and what each took."""
    ours_s = bench.best_s("warmtide")
    rivals = [tool for tool in TOOLS if tool != "warmtide"]
    fastest_s = min(bench.best_s(tool) for tool in rivals)
    size_mb = FILES * FILE_MIB * MIB / 1e6
    found = [Figure(name="cache_download_to_fastest_fetch", value=fastest_s / ours_s, unit="ratio", bar=0.9)]
    if "sha256sum" in bench.took_s:
        checked_s = fastest_s + bench.best_s("sha256sum")
        found.append(
            Figure(name="cache_download_to_fetch_and_sha256sum", value=checked_s / ours_s, unit="ratio", bar=1.3)
        )
    rss_mb = bench.rss_bytes["warmtide"] / 1e6
    found.append(Figure(name="cache_download_rss", value=rss_mb, unit="MB", bar=300.0, better="lower"))
    for tool in bench.took_s:
        found.append(Figure(name=f"{tool}_mb_per_s", value=size_mb / bench.best_s(tool), unit="MB/s"))
        found.append(Figure(name=f"{tool}_cpu", value=bench.cpu_s[tool], unit="s"))
    return found


if __name__ == "__main__":
    for figure in run():
        print(figure.line())
