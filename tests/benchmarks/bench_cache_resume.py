"""kill -9 at 90 % of a model, then again from where it was: how many bytes come twice. `hf download` beside it.

What a process wrote (`wchar`, journal included) stands for what it fetched: both write each byte once.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from figures import Figure

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from simulations.hub import hub_process  # noqa: E402  (the path comes first)

MIB = 1 << 20
SIZE_MIB = 400
RATE = 40.0 * MIB  # of one answer: slow enough to be killed at a chosen point
MODEL = "org/large"
KILL_AT = 0.9
HOSTS = ("--allow-host", "127.0.0.1", "--allow-host", "localhost")


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="warmtide-bench-") as place:
        scratch = Path(place)
        folder = scratch / "hub" / MODEL
        folder.mkdir(parents=True)
        for number in range(4):
            (folder / f"model-{number}.safetensors").write_bytes(os.urandom(SIZE_MIB // 4 * MIB))
        warmtide = [sys.executable, "-m", "warmtide", "cache", "prefetch", "ours", f"hf://{MODEL}", *HOSTS]
        hf = [str(Path(sys.executable).parent / "hf"), "download", MODEL, "--local-dir", "theirs"]
        with hub_process(scratch / "hub", bytes_per_s=RATE) as hub:
            ours = again_ratio(hub.endpoint, warmtide, scratch / "ours")
            theirs = again_ratio(hub.endpoint, hf, scratch / "theirs")
        make_deletable(scratch)
    return [
        Figure(name="cache_resume_fetched_again", value=ours, unit="ratio", bar=0.15, better="lower"),
        Figure(name="hf_fetched_again", value=theirs, unit="ratio"),
    ]


def again_ratio(endpoint: str, command: list[str], folder: Path) -> float:
    """Bytes received by both runs beyond the model's size, as a share of it."""
    first = received(endpoint, command, folder, kill_at=int(KILL_AT * SIZE_MIB * MIB))
    second = received(endpoint, command, folder, kill_at=None)
    return (first + second) / (SIZE_MIB * MIB) - 1.0


def received(endpoint: str, command: list[str], folder: Path, *, kill_at: int | None) -> int:
    """Run a fetch, killed once it has read so much; what it read from its sockets."""
    env = os.environ | {
        "HF_ENDPOINT": endpoint,
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONPATH": str(ROOT),
    }
    quiet = subprocess.DEVNULL
    child = subprocess.Popen(command, cwd=folder.parent, env=env, stdout=quiet, stderr=quiet)
    seen = 0
    while child.poll() is None:
        seen = max(seen, written_bytes(child.pid))
        if kill_at is not None and seen >= kill_at:
            child.send_signal(signal.SIGKILL)
            child.wait()
            return seen
        time.sleep(0.01)
    if child.returncode != 0 or kill_at is not None:
        raise RuntimeError(f"{command[1:4]} ended with {child.returncode} after {seen} bytes")
    return seen


def written_bytes(pid: int) -> int:
    """What a process has handed to the kernel to write: all but its journal are bytes of the model."""
    try:
        lines = Path(f"/proc/{pid}/io").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("wchar:")), 0)


def make_deletable(folder: Path) -> None:
    for inner, _, _ in os.walk(folder / "ours"):
        os.chmod(inner, 0o700)
    shutil.rmtree(folder / "ours")


if __name__ == "__main__":
    for figure in run():
        print(figure.line())
