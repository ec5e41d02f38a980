"""`kill -9` at any moment: what is published is right, and almost nothing is fetched twice."""

import hashlib
import mmap
import os
import random
import signal
import struct
import sys
import time
from pathlib import Path

import pytest

from cacheops.bandwidth import Bandwidth
from cacheops.download import Transfer
from cacheops.inventory import contents
from cacheops.journal import CHUNK_BYTES as CHUNK_OF_A_COMMAND
from cacheops.layout import Layout, open_cache
from cacheops.model import FileEntry, ModelRef
from cacheops.prefetch import bring
from cacheops.publish import remove
from cacheops.sources.file import FolderSource
from cacheops.sources.folder import Folder, folder_of
from cacheops.transport import RangeStream
from cacheops.uri import model_ref, parse_uri
from metrics.clock import WallClock
from simulations.hub import HubProcess
from simulations.kills import Fire, endure

MIB = 1 << 20
KILLS = 25  # of each seed: a hundred in all
WORKERS = 3
CHUNK_BYTES = MIB // 4
RATE = 200.0 * MIB  # 12 MiB in about 0.06 s: kills fall before, into and after the bytes


class CountingSource:
    """A folder whose delivered bytes are counted where a killed process cannot take them with it."""

    def __init__(self, folder: Folder, counter: mmap.mmap) -> None:
        self._folder = FolderSource(folder)
        self._counter = counter

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        return CountingStream(self._folder.open(entry, start, stop), self._counter)


class CountingStream:
    def __init__(self, stream: RangeStream, counter: mmap.mmap) -> None:
        self.start = stream.start
        self._stream = stream
        self._counter = counter

    def readinto(self, buffer: memoryview) -> int:
        count = self._stream.readinto(buffer)
        add(self._counter, count)  # not atomic among threads: a lost update makes the test milder by one read
        return count

    def close(self) -> None:
        self._stream.close()


def add(counter: mmap.mmap, count: int) -> None:
    counter[:8] = struct.pack("q", counted(counter) + count)


def counted(counter: mmap.mmap) -> int:
    return int(struct.unpack("q", counter[:8])[0])


def run_and_kill(root: Path, ref: ModelRef, folder: Folder, counter: mmap.mmap, after_s: float | None) -> bool:
    """A fetching process, killed after a while (None: never); whether it was done before."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            manifest = FolderSource(folder).resolve(ref)
            how = Transfer(
                workers=WORKERS, bandwidth=Bandwidth(RATE, WallClock()), range_bytes=2 * MIB, chunk_bytes=CHUNK_BYTES
            )
            bring(open_cache(root), manifest, CountingSource(folder, counter), how, now_s=0.0)
            code = 0
        finally:
            os._exit(code)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return not os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "uri"), [*((seed, "file://{}/model") for seed in range(4)), (4, "pvc://share/model")])
def test_kills_leave_whole_trees_and_refetch_at_most_a_chunk_per_open_range(
    tmp_path: Path, layout: Layout, seed: int, uri: str
) -> None:
    (tmp_path / "share").mkdir()
    ref = model_ref(uri.format(tmp_path))
    source = folder_of(parse_uri(ref.uri), tmp_path, local_files=True)
    folder = source.root / source.path
    folder.mkdir(parents=True)
    data = {f"m{number}.safetensors": os.urandom(size) for number, size in enumerate((7 * MIB, 4 * MIB + 7, MIB))}
    for name, content in data.items():
        (folder / name).write_bytes(content)
    if uri.startswith("pvc"):
        sums = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in data.items())
        (folder / "SHA256SUMS").write_text("".join(sums))
    size_bytes, chance = sum(map(len, data.values())), random.Random(seed)
    counter = mmap.mmap(-1, 8)
    kills = kills_of_this_tree = published = 0
    # On a machine so slow that none came to its end before, one that nobody kills must.
    while kills < KILLS or not published:
        done = run_and_kill(layout.root, ref, source, counter, chance.uniform(0.0, 0.15) if kills < KILLS else None)
        kills, kills_of_this_tree = kills + (not done), kills_of_this_tree + (not done)
        held = contents(layout)
        assert held.strangers == ()  # nothing under models/ that is not a whole tree
        assert held.trees or not done
        if held.trees:
            (tree,) = held.trees
            for name, content in data.items():
                assert hashlib.sha256((tree.path / name).read_bytes()).digest() == hashlib.sha256(content).digest()
            allowed = kills_of_this_tree * WORKERS * CHUNK_BYTES
            assert counted(counter) <= size_bytes + allowed
            remove(layout, tree)
            counter[:8] = struct.pack("q", 0)
            kills_of_this_tree, published = 0, published + 1


@pytest.mark.slow
@pytest.mark.parametrize("uri", ["hf://org/name", "pvc://org/name"])
def test_a_command_that_is_killed_goes_on_where_it_was(hub: HubProcess, layout: Layout, uri: str) -> None:
    """`make bench NAME=cache-kills` does this a hundred times over HTTP."""
    folder = hub.root / "org" / "name"
    folder.mkdir(parents=True)
    sums = {}
    for name, size in (("a.safetensors", 30 * MIB), ("b.safetensors", 18 * MIB + 5)):
        data = os.urandom(size)
        (folder / name).write_bytes(data)
        sums[name] = hashlib.sha256(data).hexdigest()
    words = ["--allow-host", "127.0.0.1", "--allow-host", "localhost", "--workers", str(WORKERS)]
    fire = Fire(
        command=[
            *(sys.executable, "-m", "warmtide", "cache", "prefetch", str(layout.root), uri, *words),
            *("--claims", str(hub.root), "--mib-per-s", "50", "--output", "json"),
        ],
        environment={"HF_ENDPOINT": hub.endpoint, "PYTHONPATH": str(Path(__file__).parents[2])},
        layout=layout,
        sha256_by_path=sums,
        size_bytes=48 * MIB + 5,
        longest_s=2.0,
    )

    toll = endure(fire, 5, random.Random(6))

    assert (toll.kills, toll.trees > 0) == (5, True)
    assert toll.worst_again_bytes <= WORKERS * CHUNK_OF_A_COMMAND
