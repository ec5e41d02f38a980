"""Agents that give models to each other: processes, an API server, a hub that counts what it sends."""

import asyncio
import os
import shutil
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cacheops.model import storage_key
from cacheops.verify import quick

Object = dict[str, Any]

ALPHA = "hf://org/alpha"
pytestmark = pytest.mark.cluster


def phase(status: Object, uri: str = ALPHA) -> str:
    return next((model["phase"] for model in status.get("models", ()) if model["key"] == storage_key(uri)), "")


def is_ready(status: Object) -> bool:
    return phase(status) == "Ready"


def is_there(status: Object) -> bool:
    return "address" in status


async def started(stack: AsyncExitStack, cluster: Any, *nodes: str) -> None:
    """Agents that know of each other and have nothing to do."""
    for node in nodes:
        await cluster.make_node_cache([], node)
        await stack.enter_async_context(cluster.agent(node, *cluster.peer_options()))
    for node in nodes:
        await cluster.cache_when(is_there, node)


async def test_who_comes_later_gets_it_from_who_has_it_and_the_origin_is_not_even_asked(cluster: Any) -> None:
    wanted = await cluster.wanted(ALPHA)
    async with AsyncExitStack() as stack:
        await started(stack, cluster, "node-1", "node-2")
        await cluster.want([wanted], "node-1")
        await cluster.cache_when(is_ready, "node-1")
        asked = len(cluster.hub.settings.requests)
        await cluster.want([wanted], "node-2")
        await cluster.cache_when(is_ready, "node-2")

    assert cluster.hub.settings.requests[asked:] == []
    published, faults = quick(cluster.tree(wanted["key"], "node-2"))
    assert (published.source_digest, faults) == (wanted["digest"], [])
    assert "from node-1" in cluster.log("node-2")


async def test_of_three_that_ask_at_once_one_goes_to_the_origin(cluster: Any) -> None:
    cluster.hub.settings.bytes_per_s = 2_000_000  # long enough for the others to be waiting
    wanted = await cluster.wanted(ALPHA)
    nodes = ("node-1", "node-2", "node-3")
    async with AsyncExitStack() as stack:
        await started(stack, cluster, *nodes)
        sent = cluster.hub.settings.sent_bytes
        await asyncio.gather(*(cluster.want([wanted], node) for node in nodes))
        for node in nodes:
            await cluster.cache_when(is_ready, node)

    assert cluster.hub.settings.sent_bytes - sent <= 1.05 * wanted["bytes"]
    assert all(quick(cluster.tree(wanted["key"], node))[1] == [] for node in nodes)


async def test_of_several_models_that_two_nodes_want_at_once_each_leaves_the_origin_once(cluster: Any) -> None:
    folder = cluster.folder / "hub" / "org"
    names = [f"m{number}" for number in range(5)]
    for number, name in enumerate(names):
        shutil.copytree(folder / "alpha", folder / name)
        (folder / name / "config.json").write_text(f"{number}")
        (folder / name / "model.safetensors").write_bytes(os.urandom(1_500_000))
    cluster.hub.settings.bytes_per_s = 3_000_000
    wanted = [await cluster.wanted(f"hf://org/{name}") for name in names]
    nodes = ("node-1", "node-2")
    async with AsyncExitStack() as stack:
        await started(stack, cluster, *nodes)
        sent = cluster.hub.settings.sent_bytes
        await asyncio.gather(*(cluster.want(wanted, node) for node in nodes))
        for node in nodes:
            await cluster.cache_when(lambda status: status.get("summary") == "5/5", node)

    assert cluster.hub.settings.sent_bytes - sent <= 1.05 * sum(model["bytes"] for model in wanted)
