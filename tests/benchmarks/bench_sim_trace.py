"""Reading real traffic: rows per second of Azure's format, and what memory the length of a file costs."""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from figures import Figure

from simulations.traces import Chunk, open_trace
from simulations.traces.write import write_trace

ROWS, CHUNK_ROWS = 1_000_000, 100_000
ROUNDS = 5
# VmHWM, not ru_maxrss: that begins with what the parent used when it forked.
INSPECT = """
import re, sys
from pathlib import Path
from simulations.traces import open_trace
rows = sum(map(len, open_trace(Path(sys.argv[1])).chunks()))
print(rows, int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        short, long, packed = (Path(folder) / name for name in ("short.csv", "long.csv", "long.csv.zst"))
        write_trace(requests(CHUNK_ROWS), short, "azure")
        write_trace(requests(ROWS), long, "azure")
        write_trace(requests(ROWS), packed, "azure")
        per_s, packed_per_s = speed(long), speed(packed)
        short_mb = memory_mb(short)
        grown_mb, packed_grown_mb = memory_mb(long) - short_mb, memory_mb(packed) - short_mb
    week_s = 44_102_889 / per_s  # requests of Azure's 2024 week, code and conversation
    return [
        Figure(name="sim_trace_rows", value=per_s, unit="rows/s", bar=1e6),
        Figure(name="sim_trace_week", value=week_s, unit="s for 44 M rows"),
        Figure(name="sim_trace_memory_grown", value=grown_mb, unit="MB for ten times the rows", bar=50, better="lower"),
        Figure(name="sim_trace_zst_rows", value=packed_per_s, unit="rows/s of a Zstandard file", bar=1e6),
        Figure(name="sim_trace_zst_memory", value=packed_grown_mb, unit="MB more than of a short plain file"),
    ]


def requests(rows: int) -> Iterator[Chunk]:
    rng = np.random.default_rng(1)
    for begin in range(0, rows, CHUNK_ROWS):
        at_s = begin / 45.0 + np.sort(rng.uniform(0.0, CHUNK_ROWS / 45.0, CHUNK_ROWS))
        prompts, outputs = (rng.integers(1, most, CHUNK_ROWS).astype(np.int32) for most in (8000, 700))
        yield Chunk(at_s=at_s, prompt_tokens=prompts, output_tokens=outputs)


def speed(path: Path) -> float:
    used_s = []
    for _ in range(ROUNDS):
        started_s = time.process_time()
        rows = sum(map(len, open_trace(path).chunks()))
        used_s.append(time.process_time() - started_s)
        if rows != ROWS:
            raise RuntimeError(f"{rows} of {ROWS} rows were read")
    return ROWS / statistics.median(used_s)


def memory_mb(path: Path) -> float:
    """The most that a process held which read it all."""
    done = subprocess.run([sys.executable, "-c", INSPECT, str(path)], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[1])
