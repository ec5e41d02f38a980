"""Models on a share, node by node: who has the claim copies, who has not says so, and gets them from who has."""

import asyncio
import hashlib
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cacheops.sources import SourceSettings, open_source
from cacheops.uri import model_ref
from cacheops.verify import quick
from metrics.clock import WallClock

Object = dict[str, Any]

URI = "pvc://share/alpha"
pytestmark = pytest.mark.cluster


@pytest.fixture
def claims(tmp_path: Path) -> Path:
    """Where the claim `share` is mounted."""
    model = tmp_path / "claims" / "share" / "alpha"
    model.mkdir(parents=True)
    (model / "model.safetensors").write_bytes(b"weights" * 100_000)
    digest = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    (model / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n", encoding="utf-8")
    return tmp_path / "claims"


def wish(claims: Path) -> Object:
    """The model as a controller that has the claim resolves it."""
    with closing(open_source(URI, SourceSettings(claims=claims), WallClock())) as source:
        found = source.resolve(model_ref(URI))
    return {"key": found.storage_key, "uri": URI, "digest": found.digest, "bytes": found.bytes}


def told(status: Object) -> Object:
    return next(iter(status.get("models", ())), {})


async def test_a_node_without_the_claim_says_so_and_when_it_looks_again(cluster: Any, claims: Path) -> None:
    await cluster.make_node_cache([await asyncio.to_thread(wish, claims)])

    async with cluster.agent("node-1", "--claims", str(claims / "elsewhere")):
        status = await cluster.cache_when(lambda status: told(status).get("phase") == "Failed")

    assert told(status)["reason"] == "SourceUnavailable"
    assert "claim share is not mounted" in told(status)["message"]
    assert "manifests/components/claims" in told(status)["message"]
    assert told(status)["retryAt"] > status["time"]


async def test_a_node_without_the_claim_gets_the_model_from_one_that_has_it(cluster: Any, claims: Path) -> None:
    wanted = await asyncio.to_thread(wish, claims)
    for node in ("node-1", "node-2"):
        await cluster.make_node_cache([wanted], node=node)
    peers = cluster.peer_options()

    async with cluster.agent("node-1", *peers, "--claims", str(claims)):
        await cluster.cache_when(lambda status: told(status).get("phase") == "Ready", node="node-1")
        async with cluster.agent("node-2", *peers):
            await cluster.cache_when(lambda status: told(status).get("phase") == "Ready", node="node-2")

    trees = [quick(cluster.tree(wanted["key"], node)) for node in ("node-1", "node-2")]
    assert [(tree.source_digest, faults) for tree, faults in trees] == [(wanted["digest"], [])] * 2
