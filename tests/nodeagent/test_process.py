"""The agent as a process: an API server over HTTP, the hub's protocol, a folder; nothing is mocked."""

import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cacheops.model import storage_key
from cacheops.verify import quick

Object = dict[str, Any]

ALPHA, BETA = "hf://org/alpha", "hf://org/beta"
SHARED_CRDS = Path(__file__).parents[2] / ".." / "shared" / "crds"
needs_kserve = pytest.mark.skipif(not SHARED_CRDS.is_dir(), reason="needs KServe's CRDs of ../shared/crds")
pytestmark = pytest.mark.cluster


def phases(status: Object) -> dict[str, str]:
    return {model["key"]: model["phase"] for model in status.get("models", ())}


def is_ready(*uris: str) -> Any:
    return lambda status: all(phases(status).get(storage_key(uri)) == "Ready" for uri in uris)


async def test_what_the_node_should_hold_is_fetched_verified_published_and_told(cluster: Any) -> None:
    wanted = await cluster.wanted(ALPHA)
    made = await cluster.make_node_cache([wanted])

    async with cluster.agent():
        status = await cluster.cache_when(is_ready(ALPHA))

    published, faults = quick(cluster.tree(wanted["key"]))
    assert (published.source_digest, faults) == (wanted["digest"], [])
    [model] = status["models"]
    assert (model["bytes"], model["fetchedBytes"], model["reason"]) == (wanted["bytes"], wanted["bytes"], "TooYoung")
    assert (status["summary"], status["reason"]) == ("1/1", "Ready")
    assert status["observedGeneration"] == made["metadata"]["generation"]
    assert status["disk"]["heldBytes"] == wanted["bytes"]


async def test_a_restart_finds_what_is_there_and_asks_the_source_for_nothing(cluster: Any) -> None:
    await cluster.make_node_cache([await cluster.wanted(ALPHA)])
    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))
    await cluster.forget_status()
    asked = len(cluster.hub.settings.requests)

    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))

    assert cluster.hub.settings.requests[asked:] == []


async def test_a_new_wish_wakes_the_agent_and_the_least_valuable_tree_makes_room(cluster: Any) -> None:
    alpha, beta = await cluster.wanted(ALPHA), await cluster.wanted(BETA)
    quota = int(alpha["bytes"] * 1.5)
    await cluster.make_node_cache([alpha], quotaBytes=quota)

    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))
        await cluster.want([beta], quotaBytes=quota)
        waiting = await cluster.cache_when(lambda status: phases(status).get(beta["key"]) == "Pending")
    reasons = {model["key"]: model["reason"] for model in waiting["models"]}
    assert reasons == {alpha["key"]: "TooYoung", beta["key"]: "InsufficientCapacity"}

    age(cluster.tree(alpha["key"]))
    async with cluster.agent():
        await cluster.cache_when(is_ready(BETA))

    assert not cluster.tree(alpha["key"]).exists()


def age(tree: Path) -> None:
    """Published a day ago, as far as the agent can see."""
    manifest = tree / ".manifest.json"
    tree.chmod(0o755)
    manifest.chmod(0o644)
    text = re.sub(r'"publishedAt": [0-9.]+', '"publishedAt": 1000.0', manifest.read_text(encoding="utf-8"))
    manifest.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("see", "why"),
    [
        pytest.param(lambda cluster, key: cluster.mount_pod(key), ("InUse", 1), id="mounted"),
        pytest.param(lambda cluster, _key: cluster.mount(), ("MountsUnseen", None), id="mounts cannot be seen"),
    ],
)
async def test_a_tree_that_is_mounted_or_may_be_makes_no_room(cluster: Any, see: Any, why: object) -> None:
    alpha, beta = await cluster.wanted(ALPHA), await cluster.wanted(BETA)
    quota = int(alpha["bytes"] * 1.5)
    await cluster.make_node_cache([alpha], quotaBytes=quota)
    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))
    age(cluster.tree(alpha["key"]))
    see(cluster, alpha["key"])
    await cluster.want([beta], quotaBytes=quota)

    async with cluster.agent():
        status = await cluster.cache_when(lambda status: phases(status).get(beta["key"]) == "Pending")

    leased = {model["key"]: (model["reason"], model.get("leases")) for model in status["models"]}
    assert leased[alpha["key"]] == why
    assert cluster.tree(alpha["key"]).exists()


async def test_a_fetch_that_is_killed_is_taken_up_again(cluster: Any) -> None:
    cluster.hub.settings.bytes_per_s = 400_000
    wanted = await cluster.wanted(ALPHA)
    await cluster.make_node_cache([wanted])

    async with cluster.agent() as process:
        status = await cluster.cache_when(lambda status: phases(status).get(wanted["key"]) == "Fetching")
        staging = cluster.folder / "node-1" / ".warmtide" / "staging" / wanted["digest"]
        await cluster.until(lambda: staged(staging), lambda seen: seen["bytes"] > 500_000)
        process.send_signal(signal.SIGKILL)
        await process.wait()
    assert status["summary"] == "0/1"
    assert not cluster.tree(wanted["key"]).exists()

    cluster.hub.settings.bytes_per_s = 0
    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))

    assert quick(cluster.tree(wanted["key"]))[1] == []
    assert not staging.exists()


async def staged(folder: Path) -> Object:
    parts = folder / "parts"
    found = parts.iterdir() if parts.is_dir() else ()
    return {"bytes": sum(part.stat().st_blocks * 512 for part in found)}


async def test_a_source_that_changed_is_refused_with_a_reason_and_a_time_to_try_again(cluster: Any) -> None:
    wanted = await cluster.wanted(ALPHA, digest="0" * 64)
    await cluster.make_node_cache([wanted])

    async with cluster.agent():
        status = await cluster.cache_when(lambda status: phases(status).get(wanted["key"]) == "Failed")

    [model] = status["models"]
    assert (model["reason"], status["reason"], status["summary"]) == ("IntegrityMismatch", "IntegrityMismatch", "0/1")
    assert "wanted is 0000000000000000" in model["message"]
    assert model["retryAt"] > status["time"]


async def test_wishes_that_cannot_be_used_leave_the_last_good_ones_in_force(cluster: Any) -> None:
    wanted = await cluster.wanted(ALPHA)
    await cluster.make_node_cache([wanted])

    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))
        await cluster.want([wanted | {"key": "0" * 16}])
        status = await cluster.cache_when(lambda status: status.get("reason") == "InvalidSpec")

    assert phases(status) == {wanted["key"]: "Ready"}


@needs_kserve
async def test_companion_mode_answers_kserve_with_its_own_keys_and_words(cluster: Any) -> None:
    await cluster.make_local_node(
        [
            {"modelName": "alpha", "sourceModelUri": ALPHA, "nodeGroup": "a100"},
            {"modelName": "alpha", "namespace": "team-a", "sourceModelUri": ALPHA},
            {"modelName": "gone", "sourceModelUri": "hf://org/missing"},
            {"modelName": "odd", "sourceModelUri": "ftp://x/y"},
        ]
    )

    async with cluster.agent():
        await cluster.kserve_when(
            {
                "alpha": "ModelDownloaded",
                "team-a/alpha": "ModelDownloaded",
                "gone": "ModelDownloadError",
                "odd": "ModelDownloadError",
            }
        )
        assert quick(cluster.tree(storage_key(ALPHA)))[1] == []
        await cluster.want_local([{"modelName": "alpha", "sourceModelUri": ALPHA}])
        await cluster.kserve_when({"alpha": "ModelDownloaded"})


@needs_kserve
async def test_companion_mode_says_downloaded_only_after_the_tree_is_published(cluster: Any) -> None:
    cluster.hub.settings.bytes_per_s = 1_000_000
    await cluster.make_local_node([{"modelName": "alpha", "sourceModelUri": ALPHA}])

    async with cluster.agent():
        await cluster.kserve_when({"alpha": "ModelDownloading"})
        assert not cluster.tree(storage_key(ALPHA)).exists()
        await cluster.kserve_when({"alpha": "ModelDownloaded"})
        assert cluster.tree(storage_key(ALPHA)).exists()


async def test_without_its_object_the_agent_waits_until_it_appears(cluster: Any) -> None:
    async with cluster.agent():
        await cluster.make_node_cache([await cluster.wanted(ALPHA)])
        await cluster.cache_when(is_ready(ALPHA))


async def test_progress_health_and_metrics_are_served(cluster: Any) -> None:
    await cluster.make_node_cache([await cluster.wanted(ALPHA)])

    async with cluster.agent(), aiohttp.ClientSession() as session:
        await cluster.cache_when(is_ready(ALPHA))
        port = re.search(r"listening on 127\.0\.0\.1:(\d+)", cluster.log())
        assert port is not None
        base = f"http://127.0.0.1:{port[1]}"
        answers = [await (await session.get(f"{base}/{path}")).text() for path in ("healthz", "progress", "metrics")]

    assert answers[0] == "ok\n"
    assert '"summary": "1/1"' in answers[1]
    assert 'warmtide_cache_models{phase="Ready"} 1.0' in answers[2]


async def test_a_folder_of_the_system_is_refused(cluster: Any) -> None:
    async with cluster.agent("node-1", "--root", "/var/lib") as process:
        assert await process.wait() == 2

    assert "a folder of the system" in cluster.log()


async def test_an_agent_whose_folder_was_mounted_away_deletes_nothing(cluster: Any) -> None:
    alpha, beta = await cluster.wanted(ALPHA), await cluster.wanted(BETA)
    quota = int(alpha["bytes"] * 1.5)
    await cluster.make_node_cache([alpha], quotaBytes=quota)
    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))
        age(cluster.tree(alpha["key"]))
        (cluster.folder / "node-1" / ".warmtide" / "sentinel").unlink()
        await cluster.want([beta], quotaBytes=quota)
        await cluster.cache_when(lambda status: "NotClaimed" in [model["reason"] for model in status["models"]])

    assert cluster.tree(alpha["key"]).exists()


async def test_in_a_folder_that_nobody_claimed_models_come_and_none_goes(cluster: Any) -> None:
    alpha, beta = await cluster.wanted(ALPHA), await cluster.wanted(BETA)
    quota = int(alpha["bytes"] * 1.5)
    (cluster.folder / "node-1" / "models" / "somebody-elses").mkdir(parents=True)
    await cluster.make_node_cache([alpha], quotaBytes=quota)
    options = ("--root", str(cluster.folder / "node-1"))
    async with cluster.agent("node-1", *options):
        await cluster.cache_when(is_ready(ALPHA))
        age(cluster.tree(alpha["key"]))
        await cluster.want([beta], quotaBytes=quota)
        status = await cluster.cache_when(lambda status: phases(status).get(beta["key"]) == "Pending")
    reasons = {model["key"]: model["reason"] for model in status["models"]}
    assert reasons[alpha["key"]] == "NotClaimed"

    async with cluster.agent("node-1", *options, "--claim"):
        await cluster.cache_when(is_ready(BETA))

    assert not cluster.tree(alpha["key"]).exists()
    assert (cluster.folder / "node-1" / "models" / "somebody-elses").exists()


async def test_a_tree_goes_by_order_and_only_after_the_controller_took_its_label_away(cluster: Any) -> None:
    alpha, beta = await cluster.wanted(ALPHA), await cluster.wanted(BETA)
    quota = int(alpha["bytes"] * 1.5)
    await cluster.make_node_cache([alpha], quotaBytes=quota)
    async with cluster.agent():
        await cluster.cache_when(is_ready(ALPHA))
    age(cluster.tree(alpha["key"]))

    async with cluster.agent():
        worthless = alpha | {"need": 0.0, "labelled": True}
        await cluster.want([worthless, beta | {"pinned": True}], quotaBytes=quota)
        await cluster.cache_when(lambda status: phases(status).get(alpha["key"]) == "Evicting")
        assert cluster.tree(alpha["key"]).exists()
        await cluster.want([worthless | {"labelled": False}, beta | {"pinned": True}], quotaBytes=quota)
        await cluster.cache_when(is_ready(BETA))
        assert not cluster.tree(alpha["key"]).exists()
        age(cluster.tree(beta["key"]))
        await cluster.want([], evict=[beta["key"]])
        await cluster.cache_when(lambda status: "time" in status and not phases(status))

    assert not cluster.tree(beta["key"]).exists()
