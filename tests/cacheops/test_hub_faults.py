"""The hub through its own client, and its bytes through signed addresses: what goes wrong has a name and a next try."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import web

from cacheops.download import Transfer
from cacheops.errors import RETRY_FIRST_S, RETRY_MAX_S, CacheError, FailureReason, InvalidRequestError
from cacheops.layout import Layout
from cacheops.manifest_file import Published
from cacheops.prefetch import bring, read_failure, remember_failure
from cacheops.sources import SourceSettings, open_source
from cacheops.sources.huggingface import PAGE_BYTES_MAX
from cacheops.uri import model_ref
from metrics.clock import WallClock
from simulations.hub import HubSettings, ModelHub, serve

URI = "hf://org/name"
MIB = 1 << 20
NOW_S = 1000.0
WEIGHTS = os.urandom(5 * MIB)
API, LIST, RESOLVE, CDN = "/api/models/org/name", "/api/models/org/name/tree", "/org/name/resolve", "/cdn/"


@dataclass
class Hub:
    """A hub in this process, and a cache that fetches from it."""

    behaviour: HubSettings
    settings: SourceSettings
    layout: Layout

    async def bring(self, how: Transfer | None = None) -> Published:
        return await asyncio.to_thread(self._bring, how or Transfer(retry_first_s=0.001, range_bytes=MIB))

    def _bring(self, how: Transfer) -> Published:
        ref = model_ref(URI)
        with closing(open_source(URI, self.settings, WallClock())) as source:
            try:
                manifest = source.resolve(ref)
            except CacheError as exc:
                remember_failure(self.layout, URI, ref.storage_key, exc, now_s=NOW_S)
                raise
            return bring(self.layout, manifest, source, how, now_s=NOW_S)

    def asked(self, start: str) -> int:
        """How many requests there were below a path."""
        return sum(line.split()[1].startswith(start) for line in self.behaviour.requests)


@pytest.fixture
async def hub(tmp_path: Path, layout: Layout, settings: SourceSettings) -> AsyncIterator[Hub]:
    folder = tmp_path / "hub" / "org" / "name"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}")
    behaviour = HubSettings()
    runner, endpoint = await serve(ModelHub(tmp_path / "hub", behaviour))
    try:
        yield Hub(behaviour, replace(settings, hub_endpoint=endpoint), layout)
    finally:
        await runner.cleanup()


REFUSALS = {
    "401 before the list": (API, 401, {}, FailureReason.ACCESS_DENIED, RETRY_MAX_S),
    "403 before the list": (API, 403, {}, FailureReason.ACCESS_DENIED, RETRY_MAX_S),
    "404 before the list": (API, 404, {}, FailureReason.INVALID_REQUEST, RETRY_MAX_S),
    "429 before the list": (API, 429, {"Retry-After": "600"}, FailureReason.SOURCE_UNAVAILABLE, 600.0),
    "500 before the list": (API, 500, {}, FailureReason.SOURCE_UNAVAILABLE, RETRY_FIRST_S),
    "403 for the list": (LIST, 403, {}, FailureReason.ACCESS_DENIED, RETRY_MAX_S),
    "429 for the list": (LIST, 429, {"Retry-After": "600"}, FailureReason.SOURCE_UNAVAILABLE, 600.0),
    "503 for the list": (LIST, 503, {}, FailureReason.SOURCE_UNAVAILABLE, RETRY_FIRST_S),
    "401 for a file": (RESOLVE, 401, {}, FailureReason.ACCESS_DENIED, RETRY_MAX_S),
    "429 for a file": (RESOLVE, 429, {"Retry-After": "900"}, FailureReason.SOURCE_UNAVAILABLE, 900.0),
}


@pytest.mark.parametrize(("path", "status", "headers", "reason", "wait_s"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_what_the_hub_refuses_has_a_reason_and_a_next_try(
    hub: Hub, path: str, status: int, headers: dict[str, str], reason: FailureReason, wait_s: float
) -> None:
    hub.behaviour.refusals = [(path, status, headers)]

    with pytest.raises(CacheError) as caught:
        await hub.bring()

    failure = read_failure(hub.layout, model_ref(URI).storage_key)
    assert caught.value.reason is reason
    assert failure is not None
    assert (failure.reason, failure.retry_at_s - NOW_S) == (reason, wait_s)
    assert list(hub.layout.models.iterdir()) == []


MENDED = {
    "a signature that ran out": (CDN, 403, {}),
    "a busy file": (RESOLVE, 503, {}),
    "a busy content network": (CDN, 429, {"Retry-After": "0"}),
}


@pytest.mark.parametrize(("path", "status", "headers"), MENDED.values(), ids=MENDED.keys())
async def test_what_another_request_mends_is_mended(hub: Hub, path: str, status: int, headers: dict[str, str]) -> None:
    hub.behaviour.refusals = [(path, status, headers)] * 3

    published = await hub.bring()

    assert (published.path / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.behaviour.refusals == []


async def test_each_range_has_a_signature_of_its_own_so_none_outlives_its_time(hub: Hub) -> None:
    await hub.bring()

    assert hub.asked(CDN) == 5
    assert hub.asked(f"{RESOLVE}/") == 6  # one for each range, one for the small file


async def test_signatures_that_are_never_valid_end_the_attempt(hub: Hub) -> None:
    hub.behaviour.signed_for_s = -10.0

    with pytest.raises(CacheError) as caught:
        await hub.bring()

    assert caught.value.reason is FailureReason.SOURCE_UNAVAILABLE
    assert "the signed address is refused" in str(caught.value)
    assert "Signature" not in str(caught.value)


async def test_masked_digests_are_a_refusal_and_name_the_remedy(hub: Hub) -> None:
    hub.behaviour.gated = frozenset({"org/name"})

    with pytest.raises(CacheError, match="masks its digest: accept the licence") as caught:
        await hub.bring()

    assert caught.value.reason is FailureReason.ACCESS_DENIED
    assert hub.asked(RESOLVE) == 0


async def test_a_token_opens_what_is_closed_without_and_never_reaches_the_content_network(hub: Hub) -> None:
    hub.behaviour.token = "hf_secret"
    with pytest.raises(CacheError) as caught:
        await hub.bring()
    hub.settings = replace(hub.settings, hub_token="hf_secret")

    published = await hub.bring()

    assert caught.value.reason is FailureReason.ACCESS_DENIED
    assert "hf_secret" not in str(caught.value)
    assert (published.path / "model.safetensors").read_bytes() == WEIGHTS


async def test_a_hub_that_is_not_there_is_unavailable(hub: Hub) -> None:
    hub.settings = replace(hub.settings, hub_endpoint="http://127.0.0.1:9")

    with pytest.raises(CacheError) as caught:
        await hub.bring()

    assert caught.value.reason is FailureReason.SOURCE_UNAVAILABLE


def leads_away(request: web.Request) -> web.Response:
    return web.Response(status=307, headers={"Location": "http://localhost:9/api/models/org/name"})


def pages_away(request: web.Request) -> web.Response:
    if request.path.startswith(LIST):
        return web.json_response([], headers={"Link": '<http://localhost:9/next>; rel="next"'})
    return web.json_response({"id": "org/name", "sha": "0" * 40, "siblings": []})


def floods(request: web.Request) -> web.Response:
    return web.Response(body=b" " * (PAGE_BYTES_MAX + MIB), content_type="application/json")


ODD = {
    "a redirect elsewhere": (leads_away, "leads from the hub to http://localhost:9/api/models/org/name"),
    "a next page elsewhere": (pages_away, "leads from the hub to http://localhost:9/next"),
    "a page without end": (floods, "a page of more than"),
}


@pytest.mark.parametrize(("answer", "words"), ODD.values(), ids=ODD.keys())
async def test_the_hubs_client_is_not_led_away_nor_flooded(
    settings: SourceSettings, answer: Callable[[web.Request], web.Response], words: str
) -> None:
    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    def resolve() -> None:
        there = replace(settings, hub_endpoint=f"http://127.0.0.1:{port}", hub_token="hf_secret")
        with closing(open_source(URI, there, WallClock())) as source:
            source.resolve(model_ref(URI))

    try:
        with pytest.raises(InvalidRequestError, match=words):
            await asyncio.to_thread(resolve)
    finally:
        await runner.cleanup()
