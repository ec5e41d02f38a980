"""Origins that misbehave: the tree is published whole and right, or not at all and with a reason."""

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from cacheops.bandwidth import Bandwidth
from cacheops.download import Transfer
from cacheops.errors import (
    RETRY_FIRST_S,
    RETRY_MAX_S,
    CacheError,
    CanceledError,
    FailureReason,
    IntegrityMismatchError,
    SourceUnavailableError,
)
from cacheops.inventory import contents
from cacheops.layout import Layout
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest
from cacheops.prefetch import bring, read_failure
from cacheops.publish import remove
from cacheops.sources import SourceSettings, open_source
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import WallClock
from simulations.origin import Fault, Origin

MIB = 1 << 20
WEIGHTS = "/m/model.safetensors"
NOW_S = 1000.0


def transfer(workers: int = 4) -> Transfer:
    return Transfer(workers=workers, retry_first_s=0.001, range_bytes=4 * MIB, chunk_bytes=MIB // 2)


def resolved(url: str, settings: SourceSettings) -> ModelManifest:
    with closing(open_source(url, settings, WallClock())) as source:
        return source.resolve(model_ref(url))


def fetched(url: str, layout: Layout, settings: SourceSettings, how: Transfer | None = None) -> Published:
    return brought(resolved(url, settings), layout, settings, how)


def brought(
    manifest: ModelManifest, layout: Layout, settings: SourceSettings, how: Transfer | None = None
) -> Published:
    with closing(open_source(manifest.ref.uri, settings, WallClock())) as source:
        return bring(layout, manifest, source, how or transfer(), now_s=NOW_S)


@pytest.fixture
def weights(origin: Origin) -> bytes:
    """A model of three files, the largest of several ranges, with its checksums."""
    data = os.urandom(10 * MIB)
    origin.add(WEIGHTS, data)
    origin.add("/m/config.json", b"{}")
    origin.add("/m/empty.txt", b"")
    origin.sums("/m/")
    return data


def test_a_model_is_fetched_in_ranges_verified_and_published(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings
) -> None:
    published = fetched(f"{origin.url}/m/", layout, settings)

    assert (published.path / "model.safetensors").read_bytes() == weights
    assert full(published.path, Transfer()) == []
    assert len(origin.gets(WEIGHTS)) == 3  # 4 + 4 + 2 MiB
    assert {path.stat().st_mode & 0o777 for path in published.path.iterdir()} == {0o444}
    assert published.path.stat().st_mode & 0o777 == 0o555
    assert contents(layout).staged == ()
    assert not any(entry.first_use for entry in published.manifest.files)


def test_what_is_here_is_not_fetched_again(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings
) -> None:
    fetched(f"{origin.url}/m/", layout, settings)
    before = len(origin.gets(WEIGHTS))

    fetched(f"{origin.url}/m/", layout, settings)

    assert len(origin.gets(WEIGHTS)) == before


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([Fault(cut_after=3 * MIB)], id="cut in the middle"),
        pytest.param([Fault(cut_after=0)] * 3, id="cut at once, three times"),
        pytest.param([Fault(cut_after=MIB)] * 8, id="cut again and again, but moving"),
        pytest.param([Fault(status=500), Fault(status=503), Fault(status=429)], id="busy for a while"),
        pytest.param([Fault(whole=True)], id="the whole file instead of a range"),
        pytest.param([Fault(), Fault(whole=True), Fault(whole=True)], id="the whole file instead of a later range"),
        pytest.param([Fault(flip=True)], id="a flipped bit"),
        pytest.param([Fault(drip=True)], id="a stalled range"),
    ],
)
def test_what_patience_can_mend_is_mended(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings, faults: list[Fault]
) -> None:
    origin.faults[WEIGHTS] = list(faults)
    patience = replace(settings, stall_s=2.0 if faults[0].drip else 20.0)

    published = fetched(f"{origin.url}/m/", layout, patience)

    assert (published.path / "model.safetensors").read_bytes() == weights


REFUSALS = {
    "401": (Fault(status=401), FailureReason.ACCESS_DENIED),
    "403": (Fault(status=403), FailureReason.ACCESS_DENIED),
    "404": (Fault(status=404), FailureReason.INVALID_REQUEST),
    "429": (Fault(status=429, headers={"Retry-After": "600"}), FailureReason.SOURCE_UNAVAILABLE),
    "500": (Fault(status=500), FailureReason.SOURCE_UNAVAILABLE),
    "slow loris": (Fault(drip=True), FailureReason.SOURCE_UNAVAILABLE),
    "always cut": (Fault(cut_after=100), FailureReason.SOURCE_UNAVAILABLE),
    "no ranges and always cut": (Fault(whole=True, cut_after=MIB), FailureReason.SOURCE_UNAVAILABLE),
    "flipped bits": (Fault(flip=True), FailureReason.INTEGRITY_MISMATCH),
    "wrong size": (Fault(size=11 * MIB), FailureReason.INTEGRITY_MISMATCH),
    "changed ETag": (Fault(headers={"ETag": '"other"'}), FailureReason.INTEGRITY_MISMATCH),
    "412": (Fault(status=412), FailureReason.INTEGRITY_MISMATCH),
    "teapot": (Fault(status=418), FailureReason.INVALID_REQUEST),
}


@pytest.mark.parametrize(("fault", "reason"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_patience_cannot_mend_has_a_reason_and_a_next_try(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings, fault: Fault, reason: FailureReason
) -> None:
    url = f"{origin.url}/m/"
    manifest = resolved(url, settings)
    origin.always[WEIGHTS] = fault
    patience = replace(settings, stall_s=0.1 if fault.drip else 20.0)

    with pytest.raises(CacheError) as caught:
        brought(manifest, layout, patience)

    failure = read_failure(layout, manifest.storage_key)
    assert caught.value.reason is reason
    assert failure is not None
    assert failure.reason is reason
    assert NOW_S + RETRY_FIRST_S <= failure.retry_at_s <= NOW_S + RETRY_MAX_S
    assert list(layout.models.iterdir()) == []


def test_a_failure_is_forgotten_once_the_model_is_here(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings
) -> None:
    manifest = resolved(f"{origin.url}/m/", settings)
    origin.faults[WEIGHTS] = [Fault(status=403)]
    with pytest.raises(CacheError):
        fetched(f"{origin.url}/m/", layout, settings)

    fetched(f"{origin.url}/m/", layout, settings)

    assert read_failure(layout, manifest.storage_key) is None


def test_attempts_back_off_up_to_an_hour(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings
) -> None:
    manifest = resolved(f"{origin.url}/m/", settings)
    origin.always[WEIGHTS] = Fault(status=503, headers={"Retry-After": "100"})
    waits = []

    for _ in range(9):
        with pytest.raises(SourceUnavailableError):
            brought(manifest, layout, settings)
        failure = read_failure(layout, manifest.storage_key)
        assert failure is not None
        waits.append(failure.retry_at_s - NOW_S)

    assert waits == [100, 120, 240, 480, 960, 1920, 3600, 3600, 3600]


def test_a_file_nobody_vouches_for_is_trusted_on_first_use_and_pinned_by_its_etag(
    origin: Origin, layout: Layout, settings: SourceSettings
) -> None:
    origin.add("/a.gguf", b"weights")
    url = f"{origin.url}/a.gguf"
    manifest = resolved(url, settings)

    published = fetched(url, layout, settings)

    (entry,) = published.manifest.files
    assert (entry.first_use, entry.digest) == (True, hashlib.sha256(b"weights").hexdigest())
    origin.add("/a.gguf", b"changed")
    remove(layout, published)
    with pytest.raises(IntegrityMismatchError, match="promised"):
        brought(manifest, layout, settings)


def test_a_new_revision_replaces_the_old_tree(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings
) -> None:
    before = fetched(f"{origin.url}/m/", layout, settings)
    origin.add("/m/config.json", b'{"new": 1}')
    del origin.files["/m/SHA256SUMS"]
    origin.sums("/m/")

    after = fetched(f"{origin.url}/m/", layout, settings)

    assert after.path == before.path
    assert after.manifest.digest != before.manifest.digest
    assert full(after.path, Transfer()) == []
    assert list(layout.trash.iterdir()) == []


def staged_then_stopped(origin: Origin, layout: Layout, settings: SourceSettings) -> tuple[ModelManifest, Path]:
    """A download that was stopped by its source after 5 MiB of the weights."""
    url = f"{origin.url}/m/"
    manifest = resolved(url, settings)
    origin.faults[WEIGHTS] = [Fault(), Fault(cut_after=MIB), Fault(status=403)]
    with pytest.raises(CacheError):
        brought(manifest, layout, settings, transfer(1))
    index = [entry.path for entry in manifest.files].index("model.safetensors")
    return manifest, layout.staging(manifest.digest) / "parts" / f"{index:06d}"


def flip(part: Path) -> None:
    with part.open("r+b") as file:
        file.seek(2 * MIB)
        byte = file.read(1)
        file.seek(2 * MIB)
        file.write(bytes([byte[0] ^ 1]))


def truncate(part: Path) -> None:
    os.truncate(part, 2 * MIB)


def swap(part: Path) -> None:
    part.write_bytes(bytes(part.stat().st_size))


def lengthen(part: Path) -> None:
    with part.open("ab") as file:
        file.write(b"x")


def unlink(part: Path) -> None:
    part.unlink()


def tear_journal(part: Path) -> None:
    journal = part.parent.parent / "journal"
    os.truncate(journal, journal.stat().st_size - 10)


def scribble_journal(part: Path) -> None:
    with (part.parent.parent / "journal").open("ab") as file:
        file.write(b'garbage\n[0,-5,7,null]\n[99999,0,5,null]\n{"boot": 7}\n[0,0,99999999999,"ff"]\n\xff\xfe\n[0,1,2')


def reboot(part: Path) -> None:
    journal = part.parent.parent / "journal"
    with journal.open("ab") as file:
        file.write(b'{"boot": "another"}\n')


DAMAGES: dict[str, Callable[[Path], None]] = {
    "none": lambda part: None,
    "bit flip": flip,
    "truncated": truncate,
    "swapped": swap,
    "too long": lengthen,
    "gone": unlink,
    "torn journal": tear_journal,
    "scribbled journal": scribble_journal,
    "rebooted": reboot,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_resumed_download_trusts_nothing_it_cannot_prove(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings, damage: Callable[[Path], None]
) -> None:
    manifest, part = staged_then_stopped(origin, layout, settings)
    damage(part)
    how = transfer()

    published = fetched(f"{origin.url}/m/", layout, settings, how)

    assert (published.path / "model.safetensors").read_bytes() == weights
    if damage in {DAMAGES["none"], reboot}:
        assert how.fetched_bytes == manifest.bytes - 5 * MIB


def test_a_stopped_download_keeps_what_it_has(
    origin: Origin, weights: bytes, layout: Layout, settings: SourceSettings
) -> None:
    slow = transfer(1)
    slow.bandwidth = Bandwidth(10 * MIB, WallClock())
    watcher = threading.Thread(target=stop_after, args=(slow, 2 * MIB))
    watcher.start()
    with pytest.raises(CanceledError):
        fetched(f"{origin.url}/m/", layout, settings, slow)
    watcher.join()
    rest = transfer()

    published = fetched(f"{origin.url}/m/", layout, settings, rest)

    assert rest.fetched_bytes <= published.manifest.bytes - 2 * MIB


def stop_after(how: Transfer, count_bytes: int) -> None:
    while how.fetched_bytes < count_bytes:
        how.stop.wait(0.005)
    how.stop.set()


def test_a_bandwidth_cap_spreads_bytes_over_time() -> None:
    class Frozen(WallClock):
        def now_s(self) -> float:
            return 0.0

    capped, free = Bandwidth(100.0, Frozen()), Bandwidth(0.0, Frozen())

    assert [capped.wait_s(100) for _ in range(3)] == [0.75, 1.75, 2.75]  # the first quarter second is a burst
    assert free.wait_s(1 << 40) == 0.0
    with pytest.raises(ValueError, match="negative"):
        Bandwidth(-1.0, Frozen())
