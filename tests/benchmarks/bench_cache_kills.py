"""100 × kill -9 of a fetching process at random moments, over HTTP from a hub: what is published is always right.

What a killed process had fetched is what it wrote; beyond a tree's size, that is what came twice. The bar is one
chunk per open range and kill.
"""

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from figures import Figure

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from cacheops.journal import CHUNK_BYTES  # noqa: E402  (the path comes first)
from cacheops.layout import open_cache  # noqa: E402
from simulations.hub import hub_process  # noqa: E402
from simulations.kills import Fire, Toll, endure  # noqa: E402

MIB = 1 << 20
KILLS = int(os.environ.get("WARMTIDE_BENCH_KILLS", "100"))
WORKERS = 3
SIZES_MIB = (120, 70, 9)
RATE_MIB_PER_S = 200  # 199 MiB in one second, after half a second of start
LONGEST_RATIO = 1.2  # of what a fetch takes here and now: kills fall before, into and after the bytes
SEED = 6


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="warmtide-bench-") as place:
        sums = make_model(Path(place) / "hub" / "org" / "large")
        layout = open_cache(Path(place) / "cache")
        words = ["--allow-host", "127.0.0.1", "--allow-host", "localhost", "--workers", str(WORKERS)]
        words += ["--mib-per-s", str(RATE_MIB_PER_S), "--output", "json"]
        with hub_process(Path(place) / "hub") as hub:
            command = [sys.executable, "-m", "warmtide", "cache", "prefetch"]
            fetch = [*command, str(layout.root), "hf://org/large", *words]
            environment = {"HF_ENDPOINT": hub.endpoint, "PYTHONPATH": str(ROOT)}
            once_s = took_s([*command, f"{place}/once", "hf://org/large", *words], environment)
            fire = Fire(
                command=fetch,
                environment=environment,
                layout=layout,
                sha256_by_path=sums,
                size_bytes=sum(SIZES_MIB) * MIB,
                longest_s=LONGEST_RATIO * once_s,
            )
            toll = endure(fire, KILLS, random.Random(SEED))
        for inner, _, _ in os.walk(place):
            os.chmod(inner, 0o700)
    return figures(toll)


def took_s(command: Sequence[str], environment: Mapping[str, str]) -> float:
    """Seconds of a fetch that nobody kills."""
    started_s = time.monotonic()
    subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started_s


def make_model(folder: Path) -> dict[str, str]:
    """Random files; their digests by name."""
    folder.mkdir(parents=True)
    sums = {}
    for number, size_mib in enumerate(SIZES_MIB):
        data = os.urandom(size_mib * MIB)
        (folder / f"model-{number}.safetensors").write_bytes(data)
        sums[f"model-{number}.safetensors"] = hashlib.sha256(data).hexdigest()
    return sums


def figures(toll: Toll) -> list[Figure]:
    """What it came to; the first wrong tree would have ended the run."""
    allowed_mib = WORKERS * CHUNK_BYTES / MIB
    worst_mib = toll.worst_again_bytes / MIB
    again_ratio = toll.again_bytes / max(1, toll.fetched_bytes)
    return [
        Figure(name="cache_kills", value=toll.kills, unit="kills", bar=KILLS),
        Figure(name="cache_kills_sound_trees", value=toll.trees, unit="trees", bar=1),
        Figure(name="cache_kills_again_per_kill", value=worst_mib, unit="MiB", bar=allowed_mib, better="lower"),
        Figure(name="cache_kills_again", value=again_ratio, unit="ratio"),
    ]


if __name__ == "__main__":
    for figure in run():
        print(figure.line())
