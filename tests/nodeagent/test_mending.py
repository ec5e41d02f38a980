"""A damaged tree as the cluster sees it: told, given to nobody, mended, told again."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from cacheops.addresses import AddressRules
from cacheops.download import Transfer
from cacheops.layout import open_cache
from cacheops.sources import SourceSettings
from cacheops.verify import full
from metrics.clock import WallClock
from nodeagent.fetches import Fetches
from nodeagent.kube import NodeApi
from nodeagent.reconcile import Agent, AgentOptions
from nodeagent.store import Leases, Store

Object = dict[str, Any]

ALPHA = "hf://org/alpha"
pytestmark = pytest.mark.cluster


@asynccontextmanager
async def agent_of(cluster: Any) -> AsyncIterator[Agent]:
    """An agent in this process, started as the real one is."""
    stop, clock = asyncio.Event(), WallClock()
    settings = SourceSettings(rules=AddressRules(hosts=frozenset(cluster.hosts)), hub_endpoint=cluster.endpoint)
    store = Store(open_cache(cluster.folder / "node-1"), settings, clock, Leases(table=cluster.folder / "mounts"))
    await asyncio.to_thread(store.examine)
    options = AgentOptions(node="node-1", version="test", is_companion=False, look_s=0.05, idle_s=0.2)
    async with NodeApi(cluster.kubeconfig) as api, asyncio.TaskGroup() as group:
        agent = Agent(store, api, Fetches(store, clock), options, clock)
        group.create_task(agent.run(stop))
        try:
            yield agent
        finally:
            stop.set()


def alpha(status: Object) -> Object:
    return next(iter(status.get("models", ())), {})


def is_ready(status: Object) -> bool:
    return alpha(status).get("phase") == "Ready"


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)


async def test_what_is_damaged_is_told_given_to_nobody_and_mended_when_the_source_lets_us(cluster: Any) -> None:
    wanted = await cluster.wanted(ALPHA)
    await cluster.make_node_cache([wanted])
    async with agent_of(cluster) as agent:
        await cluster.cache_when(is_ready)
        assert agent.shared(wanted["digest"]) is not None
    tree = cluster.tree(wanted["key"])
    cut(tree / "model.safetensors")
    cluster.hub.settings.token = "that-we-do-not-have"

    async with agent_of(cluster) as agent:
        told = await cluster.cache_when(lambda status: alpha(status).get("reason") == "AccessDenied")
        assert agent.shared(wanted["digest"]) is None

    assert (alpha(told)["phase"], told["reason"], told["summary"]) == ("Failed", "AccessDenied", "0/1")
    assert "model.safetensors" in alpha(told)["message"]
    assert alpha(told)["retryAt"] > told["time"]
    cluster.hub.settings.token = None
    for failure in (cluster.folder / "node-1" / ".warmtide" / "failures").iterdir():
        failure.unlink()  # an hour passes
    sent_bytes = cluster.hub.settings.sent_bytes

    async with agent_of(cluster) as agent:
        await cluster.cache_when(is_ready)
        assert agent.shared(wanted["digest"]) is not None

    assert full(tree, Transfer()) == []
    assert cluster.hub.settings.sent_bytes - sent_bytes == (tree / "model.safetensors").stat().st_size
