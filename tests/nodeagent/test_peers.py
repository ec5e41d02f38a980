"""Agents that give models to each other: processes, an API server, a hub that counts what it sends."""

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Any

import pytest

from cacheops.verify import quick

Object = dict[str, Any]

ALPHA = "hf://org/alpha"
pytestmark = pytest.mark.cluster


def is_there(status: Object) -> bool:
    return "address" in status


async def started(stack: AsyncExitStack, cluster: Any, *nodes: str) -> None:
    """Agents that know of each other and have nothing to do."""
    for node in nodes:
        await cluster.make_node_cache([], node)
        await stack.enter_async_context(cluster.agent(node, *cluster.peer_options()))
    for node in nodes:
        await cluster.cache_when(is_there, node)


async def test_each_model_leaves_the_origin_once_whether_nodes_want_it_at_once_or_one_after_the_other(
    cluster: Any,
) -> None:
    folder, names = cluster.folder / "hub" / "org", [f"m{number}" for number in range(5)]
    for number, name in enumerate(names):
        (folder / name).mkdir()
        (folder / name / "config.json").write_text(f"{number}")
        (folder / name / "model.safetensors").write_bytes(os.urandom(1_500_000))
    cluster.hub.settings.bytes_per_s = 3_000_000  # long enough for the other to be waiting
    wanted, later = [await cluster.wanted(f"hf://org/{name}") for name in names], await cluster.wanted(ALPHA)
    nodes = ("node-1", "node-2")
    async with AsyncExitStack() as stack:
        await started(stack, cluster, *nodes)
        sent = cluster.hub.settings.sent_bytes
        await asyncio.gather(*(cluster.want(wanted, node) for node in nodes))
        for node in nodes:
            await cluster.cache_when(lambda status: status.get("summary") == "5/5", node)
        assert cluster.hub.settings.sent_bytes - sent <= 1.05 * sum(model["bytes"] for model in wanted)

        await cluster.want([*wanted, later], "node-1")
        await cluster.cache_when(lambda status: status.get("summary") == "6/6", "node-1")
        asked = len(cluster.hub.settings.requests)
        await cluster.want([*wanted, later], "node-2")
        await cluster.cache_when(lambda status: status.get("summary") == "6/6", "node-2")

    assert cluster.hub.settings.requests[asked:] == []  # not even for its list of files
    published, faults = quick(cluster.tree(later["key"], "node-2"))
    assert (published.source_digest, faults) == (later["digest"], [])
    assert f"{ALPHA}: from node-1" in cluster.log("node-2")
