"""Where a pod's weights come from when its start is not a number but bytes: the node's folder, else the hub.

A kubelet with a `WeightStore` asks it instead of waiting for a `StartupModel`'s seconds. What it brings is real: a
node that holds the published tree reads it, any other fetches every byte from the hub, as a storage initializer does.
"""

import asyncio
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import aiohttp

from cacheops.model import storage_key
from cacheops.uri import parse_uri
from simulations.cluster.api import Object
from simulations.cluster.workloads.startup import model_of

BLOCK_BYTES = 1 << 20
MANIFEST = ".manifest.json"  # there once a tree is whole


class WeightStore(Protocol):
    """Weights by node."""

    def serves(self, pod: Object) -> bool:
        """Whether this pod's weights are real here; others take the startup model's seconds."""
        ...

    async def bring(self, pod: Object, node: str) -> None:
        """Return once the weights lie where the pod can read them."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFolders:
    """A folder per node, as agents keep them; models of one hub."""

    root: Path
    hub: str  # its endpoint

    def serves(self, pod: Object) -> bool:
        """Those that name a model of a hub."""
        return model_of(pod).startswith("hf://")

    async def bring(self, pod: Object, node: str) -> None:
        """From the node's published tree, else from the hub into a folder that goes with the pod."""
        uri = model_of(pod)
        tree = self.root / node / "models" / storage_key(uri)
        if (tree / MANIFEST).is_file():
            await asyncio.to_thread(_read_all, tree)
        else:
            await self._download(parse_uri(uri).place)

    async def _download(self, name: str) -> None:
        # The connection and read timeouts of a transfer that a stopped hub would leave hanging.
        timeout = aiohttp.ClientTimeout(total=None, sock_read=30.0)
        folder = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="pod-"))
        try:
            async with aiohttp.ClientSession(timeout=timeout, raise_for_status=True) as session:
                async with session.get(f"{self.hub}/api/models/{name}/tree/main?recursive=true") as answer:
                    files = [row["path"] for row in json.loads(await answer.text()) if row["type"] == "file"]
                for file in files:
                    await _fetch(session, f"{self.hub}/{name}/resolve/main/{file}", folder / Path(file).name)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


async def _fetch(session: aiohttp.ClientSession, url: str, path: Path) -> None:
    async with session.get(url) as answer:
        with path.open("wb") as file:
            async for block in answer.content.iter_chunked(BLOCK_BYTES):
                await asyncio.to_thread(file.write, block)


def _read_all(tree: Path) -> None:
    for path in sorted(tree.rglob("*")):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(BLOCK_BYTES):
                    pass
