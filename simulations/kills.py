"""`kill -9` at random moments against a fetching process: is what it leaves ever wrong, and what comes twice?"""

import hashlib
import json
import os
import random
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cacheops.inventory import contents
from cacheops.layout import Layout
from cacheops.manifest_file import Published
from cacheops.publish import remove

FETCH_S = 120.0  # no fetch of a test takes so long


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """Which fetch, and how it is shot at."""

    command: Sequence[str]  # prints `{"fetchedBytes": …}` on stdout when it is done
    environment: Mapping[str, str]
    layout: Layout
    sha256_by_path: Mapping[str, str]  # what the tree must hold, and nothing else
    size_bytes: int
    longest_s: float  # a life ends at a random moment before this, or is done


@dataclass(slots=True)
class Toll:
    """What it came to. `again_bytes` is what trees took beyond their size."""

    kills: int = 0
    trees: int = 0
    fetched_bytes: int = 0
    again_bytes: int = 0
    kills_at_once: int = 0  # most kills that one tree took
    worst_again_bytes: int = 0  # beyond its size, per kill, of one tree


def endure(fire: Fire, kills: int, chance: random.Random) -> Toll:
    """Fetch, kill, fetch again; each whole tree is compared, deleted and fetched anew, until so many kills are done.

    AssertionError at the first tree that is not what was published at the source.
    """
    toll, written_bytes, deaths = Toll(), 0, 0
    while toll.kills < kills or deaths:
        patience_s = chance.uniform(0.0, fire.longest_s) if toll.kills < kills else FETCH_S
        life_bytes, is_done = _life(fire, patience_s)
        written_bytes += life_bytes
        trees = _sound_trees(fire)
        if not is_done:
            toll.kills, deaths = toll.kills + 1, deaths + 1
            continue
        assert trees, "a fetch that ended well left no tree"
        _count(toll, fire, written_bytes, deaths)
        remove(fire.layout, trees[0])
        written_bytes = deaths = 0
    return toll


def _count(toll: Toll, fire: Fire, written_bytes: int, deaths: int) -> None:
    again_bytes = max(0, written_bytes - fire.size_bytes)
    toll.trees += 1
    toll.fetched_bytes += written_bytes
    toll.again_bytes += again_bytes
    toll.kills_at_once = max(toll.kills_at_once, deaths)
    if deaths:
        toll.worst_again_bytes = max(toll.worst_again_bytes, again_bytes // deaths)


def _life(fire: Fire, patience_s: float) -> tuple[int, bool]:
    """One process: the bytes it wrote, and whether it was done before it was killed."""
    process = subprocess.Popen(
        fire.command, env={**os.environ, **fire.environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        told, said = process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        return _killed(process), False
    assert process.returncode == 0, said[-500:]
    return int(json.loads(told.splitlines()[-1])["fetchedBytes"]), True


def _killed(process: "subprocess.Popen[str]") -> int:
    """Bytes that a process has handed to the kernel; stopped first, so that the count is its last."""
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    try:
        rows = Path(f"/proc/{process.pid}/io").read_text(encoding="ascii").splitlines()
        written = next(int(row.split()[1]) for row in rows if row.startswith("wchar:"))
    except PermissionError:  # it ended by itself a moment before: the next life finds the tree
        written = 0
    process.kill()
    process.communicate()
    return written


def _sound_trees(fire: Fire) -> tuple[Published, ...]:
    """What is published, byte by byte what it must be."""
    held = contents(fire.layout)
    assert held.strangers == (), f"no whole tree: {held.strangers}"
    for tree in held.trees:
        found = {entry.path: _sha256(tree.path / entry.path) for entry in tree.manifest.files}
        assert found == fire.sha256_by_path, f"{tree.path} differs from its source"
    return held.trees


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
