"""`warmtide cache … --cluster`: the words of a folder, on the objects of a cluster."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from autoscaler.cache_command import main
from autoscaler.kube.client import KubeClient
from cacheops.crds import all_crds
from cacheops.model import storage_key
from simulations.cluster.apiserver import ApiServer

GIB = 2**30
HELD, COMING, OLD = "hf://org/held", "hf://org/coming", "hf://org/old"
CACHES = "/apis/warmtide.dev/v1alpha1/namespaces/default/modelcaches"
NODES = "/apis/warmtide.dev/v1alpha1/nodemodelcaches"
DIGEST = "ab" * 32
Say = Callable[..., Awaitable[tuple[int, str]]]


def wanted(uri: str, **more: Any) -> dict[str, Any]:
    return {"key": storage_key(uri), "uri": uri, "digest": DIGEST, "bytes": 40 * GIB} | more


def told(uri: str, phase: str, **more: Any) -> dict[str, Any]:
    return {"key": storage_key(uri), "digest": DIGEST, "phase": phase, "bytes": 40 * GIB} | more


STATUS = {
    "disk": {
        "capacityBytes": 200 * GIB,
        "freeBytes": 110 * GIB,
        "heldBytes": 90 * GIB,
        "limitBytes": 100 * GIB,
    },
    "models": [
        told(HELD, "Ready", fetchedBytes=40 * GIB, leases=1, reason="InUse"),
        told(COMING, "Fetching", fetchedBytes=10 * GIB, bytesPerSecond=GIB, reason="Wanted"),
        told(OLD, "Idle", fetchedBytes=40 * GIB, reason="RoomEnough"),
    ],
}


@pytest.fixture
async def kubeconfig(tmp_path: Path) -> AsyncIterator[Path]:
    """Of a cluster with one node's agent and two ModelCaches."""
    async with ApiServer() as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")
        async with KubeClient.from_config(path) as client:
            for crd in all_crds():
                await client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd)
            head = {"apiVersion": "warmtide.dev/v1alpha1"}
            for name, uri, pinned in (("held", HELD, True), ("coming", COMING, False)):
                spec = {"source": {"uri": uri}, "pinned": pinned}
                await client.create(CACHES, head | {"kind": "ModelCache", "metadata": {"name": name}, "spec": spec})
            spec = {"models": [wanted(HELD, pinned=True), wanted(COMING)], "limits": {"quotaBytes": 100 * GIB}}
            await client.create(NODES, head | {"kind": "NodeModelCache", "metadata": {"name": "n1"}, "spec": spec})
            await client.patch(f"{NODES}/n1/status", {"status": STATUS})
        yield path


@pytest.fixture
async def say(kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> Say:
    """Call a command; its exit code and what it printed."""

    async def call(*words: str) -> tuple[int, str]:
        code = await asyncio.to_thread(main, [*words, "--kubeconfig", str(kubeconfig)])
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return call


async def spec_of(kubeconfig: Path, name: str) -> dict[str, Any]:
    async with KubeClient.from_config(kubeconfig) as client:
        found = await client.get(f"{CACHES}/{name}")
    spec: dict[str, Any] = found["spec"]
    return spec


async def test_a_cluster_and_a_node_are_listed(say: Say) -> None:
    cluster, node = await say("ls", "--cluster"), await say("ls", "--node", "n1")

    assert (cluster[0], node[0]) == (0, 0)
    assert [line.split()[0] for line in cluster[1].splitlines()] == ["NAME", "default/coming", "default/held"]
    assert [line.split()[3:6] for line in node[1].splitlines()[1:]] == [
        ["Ready", "100%", "InUse,"],
        ["Fetching", "25%", "Wanted"],
        ["Idle", "100%", "RoomEnough"],
    ]


async def test_the_plan_is_the_agents_own(say: Say) -> None:
    code, text = await say("plan", "--node", "n1")

    assert code == 0
    assert text.splitlines()[0] == "node n1: holds 90.00 GiB and may hold 100.00 GiB"
    assert [line.split()[:3] for line in text.splitlines()[2:]] == [
        ["Evict", "MakesRoom", "-40.00"],
        ["Fetch", "Resumes", "+30.00"],
        ["Keep", "InUse", "-"],
    ]


async def test_disks_are_summed(say: Say) -> None:
    assert "n1    90.00 GiB  100.00 GiB  200.00 GiB  110.00 GiB" in (await say("du", "--cluster"))[1]
    assert "90.00 GiB  (all)" in (await say("du", "--node", "n1"))[1]


async def test_damage_that_an_agent_found_fails_the_command(say: Say, kubeconfig: Path) -> None:
    sound = await say("verify", "--cluster")
    bad = told(OLD, "Failed", reason="IntegrityMismatch", message="'a': sha256 is not what it was")
    async with KubeClient.from_config(kubeconfig) as client:
        await client.patch(f"{NODES}/n1/status", {"status": {"models": [bad]}})

    damaged = await say("verify", "--cluster")

    assert sound == (0, "n1: 2 models verified and published, none damaged\n")
    assert damaged[0] == 1
    assert "IntegrityMismatch: 'a': sha256 is not what it was" in damaged[1]


async def test_pins_are_set_and_taken_on_the_model_cache_and_a_dry_run_is_dry(say: Say, kubeconfig: Path) -> None:
    dry = await say("pin", "--cluster", "coming", "--dry-run")
    assert "pinned" not in await spec_of(kubeconfig, "coming") or not (await spec_of(kubeconfig, "coming"))["pinned"]

    await say("pin", "--cluster", COMING)
    await say("unpin", "--cluster", "default/held")

    assert dry == (0, "default/coming: would be patched: pinned: agents never evict it\n")
    assert (await spec_of(kubeconfig, "coming"))["pinned"] is True
    assert (await spec_of(kubeconfig, "held"))["pinned"] is False


async def test_a_pinned_cache_is_not_given_up(say: Say, kubeconfig: Path) -> None:
    refused = await say("evict", "--cluster", "held", "coming", "--dry-run")
    assert refused[0] == 1
    assert "default/held: stays: Pinned" in refused[1]
    assert "default/coming: would be deleted; 10.00 GiB on n1" in refused[1]

    gone = await say("evict", "--cluster", "coming")

    assert gone[0] == 0
    assert (await say("ls", "--cluster"))[1].count("default/") == 1


async def test_a_model_is_asked_for_and_then_on_more_nodes(say: Say, kubeconfig: Path) -> None:
    dry = await say("prefetch", "--cluster", "hf://org/new", "--name", "new", "--dry-run")
    made = await say("prefetch", "--cluster", "hf://org/new", "--name", "new")
    more = await say("prefetch", "--cluster", "hf://org/new", "--name", "new", "--nodes", "3")
    other = await say("prefetch", "--cluster", "hf://org/other", "--name", "new")

    assert dry[1].startswith("would create: {")
    assert (made[0], more[0], other[0]) == (0, 0, 2)
    assert (await spec_of(kubeconfig, "new"))["places"] == {"min": 3}
    assert "spec.source.uri: is hf://org/new, not hf://org/other" in other[1]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        pytest.param(("ls", "--node", "n9"), 2, "node 'n9': has no NodeModelCache; there are: n1", id="no node"),
        pytest.param(("pin", "--cluster", "nobody"), 2, "there are: default/coming, default/held", id="no cache"),
        pytest.param(("pin", "--cluster"), 2, "no model is named", id="no word"),
        pytest.param(("pin", "--node", "n1", "held"), 2, "the controller places models", id="one node"),
        pytest.param(("prefetch", "--cluster", "hf://a/b"), 2, "--name NAMESPACE/NAME", id="no name"),
    ],
)
async def test_a_wrong_call_says_what_there_is(say: Say, words: tuple[str, ...], code: int, said: str) -> None:
    found, text = await say(*words)

    assert (found, text.count("\n")) == (code, 1)
    assert said in text


async def test_a_cluster_without_our_kinds_is_told_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with ApiServer() as server:
        path = server.write_kubeconfig(tmp_path / "kubeconfig")

        code = await asyncio.to_thread(main, ["ls", "--cluster", "--kubeconfig", str(path)])

    assert code == 2
    assert "install Warmtide's CRDs" in capsys.readouterr().err


def test_a_cluster_that_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ls", "--cluster", "--kubeconfig", str(tmp_path / "none")]) == 2
    assert f"kubeconfig {tmp_path / 'none'}" in capsys.readouterr().err
