"""Sources asked once: at the revision that was meant, with nothing secret in what is said, whatever goes wrong."""

import asyncio
from dataclasses import replace

import pytest

from autoscaler.caching.resolve import RESOLVES_MAX, Failed, Resolver, without_secrets
from autoscaler.caching.values import Resolved
from cacheops.errors import AccessDeniedError, FailureReason
from cacheops.model import Algorithm, FileEntry, ModelManifest, ModelRef
from cacheops.tasks import CacheTask
from metrics.clock import ManualClock

FILE = FileEntry(path="a.safetensors", size_bytes=7, algorithm=Algorithm.SHA256, digest="a" * 64)


def task(uri: str = "hf://org/alpha", revision: str | None = None) -> CacheTask:
    return CacheTask(namespace="team-a", name="alpha", uid="u", ref=ModelRef(uri=uri, revision=revision))


class Source:
    """Lists one file, or fails."""

    def __init__(self, trouble: Exception | None = None) -> None:
        self.trouble = trouble
        self.asked: list[ModelRef] = []

    async def __call__(self, ref: ModelRef) -> ModelManifest:
        self.asked.append(ref)
        if self.trouble is not None:
            raise self.trouble
        return ModelManifest(ref=ref, resolved_revision="c0ffee", files=(FILE,))


async def asked(source: Source, wanted: CacheTask) -> Resolved | Failed | None:
    resolver = Resolver(source, ManualClock(1000.0))
    async with asyncio.TaskGroup() as group:
        assert resolver.is_due("u", "r")
        resolver.start(group, wanted, "r")
        assert not resolver.is_due("u", "r")
    return resolver.result("u", "r")


@pytest.mark.parametrize(
    ("wanted", "revision"),
    [
        pytest.param(task(), None, id="the default branch"),
        pytest.param(task(revision="v1"), "v1", id="of the spec"),
        pytest.param(task("hf://org/alpha@v2"), "v2", id="of the URI"),
        pytest.param(task("hf://org/alpha:v3"), "v3", id="of the URI, as KServe writes it"),
        pytest.param(task("hf://org/alpha@v2", "v1"), "v1", id="the spec counts"),
    ],
)
async def test_a_source_is_asked_for_the_revision_that_was_meant(wanted: CacheTask, revision: str | None) -> None:
    source = Source()

    found = await asked(source, wanted)

    assert [ref.revision for ref in source.asked] == [revision]
    assert isinstance(found, Resolved)
    assert (found.revision, found.files, found.size_bytes, found.at_s) == ("c0ffee", 1, 7, 1000.0)


@pytest.mark.parametrize(
    ("trouble", "reason", "wait_s"),
    [
        pytest.param(AccessDeniedError("no"), FailureReason.ACCESS_DENIED, 3600.0, id="needs a human"),
        pytest.param(KeyError("bug"), FailureReason.SOURCE_UNAVAILABLE, 60.0, id="a bug in a client"),
    ],
)
async def test_every_failure_has_a_reason_and_a_time(trouble: Exception, reason: FailureReason, wait_s: float) -> None:
    found = await asked(Source(trouble), task())

    assert isinstance(found, Failed)
    assert (found.reason, found.retry_at_s) == (reason, 1000.0 + wait_s)


async def test_another_request_is_asked_at_once() -> None:
    resolver = Resolver(Source(AccessDeniedError("no")), ManualClock(1000.0))
    async with asyncio.TaskGroup() as group:
        resolver.start(group, task(), "r")

    assert not resolver.is_due("u", "r")
    assert resolver.is_due("u", "other")
    resolver.forget_all_but(set())
    assert resolver.is_due("u", "r")


class Hanging(Source):
    """A file server that is away."""

    async def __call__(self, ref: ModelRef) -> ModelManifest:
        if ref.uri.startswith("pvc://"):
            await asyncio.Event().wait()
        return await super().__call__(ref)


@pytest.mark.looptime
async def test_a_share_that_hangs_holds_up_no_other_source_and_is_told_at_last() -> None:
    resolver = Resolver(Hanging(), ManualClock(1000.0))
    async with asyncio.TaskGroup() as group:
        for number in range(2 * RESOLVES_MAX):
            resolver.start(group, replace(task(f"pvc://share/{number}"), uid=f"s{number}"), "r")
        resolver.start(group, replace(task(), uid="other"), "r")
        await asyncio.sleep(1.0)
        in_time = resolver.result("other", "r")

    hung = [resolver.result(f"s{number}", "r") for number in range(2 * RESOLVES_MAX)]
    assert isinstance(in_time, Resolved)
    assert {found.reason for found in hung if isinstance(found, Failed)} == {FailureReason.SOURCE_UNAVAILABLE}
    assert all(isinstance(found, Failed) for found in hung)


async def test_who_has_no_digests_is_told_what_to_do() -> None:
    class Unsworn(Source):
        async def __call__(self, ref: ModelRef) -> ModelManifest:
            return ModelManifest(ref=ref, resolved_revision="r", files=(FileEntry(path="a.gguf", size_bytes=7),))

    found = await asked(Unsworn(), task("pvc://share/alpha"))

    assert isinstance(found, Failed)
    assert found.reason is FailureReason.INVALID_REQUEST
    assert "SHA256SUMS" in found.message
    trusting = await asked(Unsworn(), replace(task("pvc://share/alpha"), allow_unverified=True))
    assert isinstance(trusting, Resolved)
    assert trusting.unsworn == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("https://me:pw@host/x: HTTP 401", "https://…@host/x: HTTP 401", id="user and password"),
        pytest.param("s3://b/x?X-Amz-Signature=abc failed", "s3://b/x?… failed", id="a signed address"),
        pytest.param("token hf_secret refused", "token … refused", id="of our environment"),
        pytest.param("x" * 400, "x" * 299 + "…", id="long"),
    ],
)
def test_nothing_secret_is_said(text: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")

    assert without_secrets(text) == shown
