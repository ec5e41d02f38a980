"""Files that nobody vouches for: what the first node found, every later node must find."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from cacheops.verify import quick
from simulations.cluster.api import MODEL_CACHES

WEIGHTS, OTHERS = b"weights" * 1000, b"thieves" * 1000


def put(file: Path, content: bytes) -> None:
    """Other bytes behind the same size and time of change: the source's list stays the same."""
    before = file.stat()
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@asynccontextmanager
async def cached(story: Any, content: bytes, *, copies: int) -> AsyncIterator[tuple[str, Path, dict[str, Any]]]:
    """A model on so many of two nodes: its address, its file, and what is said of it."""
    uri = story.model("alpha", model=content)
    async with story.played("gpu-0", "gpu-1"):
        await story.cache("alpha", uri, places={"min": copies})
        await story.town.after(30)
        yield uri, Path(uri.removeprefix("file://")) / "model.safetensors", await story.status("alpha")


async def test_what_the_first_node_found_binds_every_later_one(story: Any) -> None:
    async with cached(story, WEIGHTS, copies=1) as (uri, file, first):
        put(file, OTHERS)
        await story.change("alpha", spec={"places": {"min": 2}})
        await story.town.after(30)
        refused = await story.status("alpha")
        trees = [node for node in ("gpu-0", "gpu-1") if story.tree(node, uri).exists()]
        put(file, WEIGHTS)
        await story.town.after(300)
        last = await story.status("alpha")

    [holder] = trees
    assert [place["node"] for place in first["places"]] == [holder]
    assert first["resolved"]["contentDigest"] == quick(story.tree(holder, uri))[0].content_digest
    assert (refused["reason"], refused["summary"]) == ("IntegrityMismatch", "1/2")
    assert "trusted first" in next(c["message"] for c in refused["conditions"] if c["type"] == "Ready")
    assert (last["reason"], last["summary"], last["resolved"]) == ("Ready", "2/2", first["resolved"])


async def test_a_node_that_published_other_bytes_in_the_same_moment_fetches_again(story: Any) -> None:
    async with cached(story, OTHERS, copies=2) as (uri, file, status):
        put(file, WEIGHTS)
        # As if the other node had come first: what is bound is read from the status alone.
        held = quick(story.tree("gpu-0", uri))[0].manifest.as_listed()
        bound = held.sealed({"model.safetensors": sha256(WEIGHTS).hexdigest()}).digest
        patch = {"status": {"resolved": {"contentDigest": bound}}}
        await story.town.api.patch(MODEL_CACHES, "default", "alpha", patch, "status")
        await story.town.after(120)
        after = await story.status("alpha")

    assert status["summary"] == "2/2"
    assert bound != status["resolved"]["contentDigest"]
    assert after["summary"] == "2/2"
    assert {(story.tree(node, uri) / "model.safetensors").read_bytes() for node in ("gpu-0", "gpu-1")} == {WEIGHTS}


async def test_where_the_source_has_digests_nothing_is_bound(story: Any) -> None:
    uri = story.model("alpha", model=WEIGHTS)
    story.sum_up(uri)
    async with story.played("gpu-0"):
        await story.cache("alpha", uri, source={"allowUnverified": False}, places={"min": 1})
        await story.town.after(30)
        status = await story.status("alpha")

    assert status["reason"] == "Ready"
    assert "contentDigest" not in status["resolved"]
