"""`pvc://`: models on a share that is mounted: what vouches for them, and what changed."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import set_client_factory, snapshot_download
from huggingface_hub.utils._http import default_client_factory

from cacheops.download import Transfer
from cacheops.errors import CacheError, FailureReason, IntegrityMismatchError, InvalidRequestError
from cacheops.layout import Layout, open_cache
from cacheops.manifest_file import Published
from cacheops.model import Algorithm, FileEntry, ModelManifest
from cacheops.prefetch import bring, read_failure
from cacheops.sources import SourceSettings, huggingface, open_source
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import WallClock
from simulations.hub import HubProcess

URI = "pvc://share/m"
WEIGHTS = os.urandom(1 << 20)
SWORN, GIT, TRUSTED = Algorithm.SHA256, Algorithm.GIT_SHA1, Algorithm.NONE


@pytest.fixture
def share(share: Path) -> Path:
    (share / "m" / "model.safetensors").write_bytes(WEIGHTS)
    return share


def sum_up(folder: Path) -> None:
    """As people do it."""
    with (folder / "SHA256SUMS").open("wb") as file:
        subprocess.run(["sha256sum", "model.safetensors", "./sub/config.json"], cwd=folder, stdout=file, check=True)


def resolved(uri: str, mounted: SourceSettings, revision: str | None = None) -> ModelManifest:
    with closing(open_source(uri, mounted, WallClock())) as source:
        return source.resolve(replace(model_ref(uri), revision=revision))


def brought(manifest: ModelManifest, layout: Layout, mounted: SourceSettings) -> Published:
    """By somebody who lists the model anew, as an agent does."""
    with closing(open_source(manifest.ref.uri, mounted, WallClock())) as source:
        assert source.resolve(manifest.ref).digest == manifest.digest
        return bring(layout, manifest, source, Transfer(retry_first_s=0.001, range_bytes=1 << 18), now_s=1000.0)


def algorithms(manifest: ModelManifest) -> dict[str, Algorithm]:
    return {entry.path: entry.algorithm for entry in manifest.files}


# --- what vouches ---


def nothing(model: Path, hub: HubProcess) -> None:
    """A folder that somebody filled."""


def sums(model: Path, hub: HubProcess) -> None:
    sum_up(model)


def tree_of_ours(model: Path, hub: HubProcess) -> None:
    """What `warmtide cache prefetch` published on the share."""
    there = SourceSettings(local_files=True)
    layout = open_cache(model.parent / "cache")
    uri = f"file://{model}"
    with closing(open_source(uri, there, WallClock())) as source:
        published = bring(layout, source.resolve(model_ref(uri)), source, Transfer(), now_s=0.0)
    shutil.rmtree(model)
    model.symlink_to(f"cache/models/{published.path.name}")


def download(hub: HubProcess, *, local_dir: Path | None = None, cache_dir: Path | None = None) -> None:
    """As the hub's library does it by itself: in our processes it follows no redirect."""
    set_client_factory(default_client_factory)
    try:
        snapshot_download("org/name", endpoint=hub.endpoint, local_dir=local_dir, cache_dir=cache_dir)
    finally:
        set_client_factory(huggingface._bounded_client)


def download_of_the_hub(model: Path, hub: HubProcess) -> None:
    """`hf download org/name --local-dir …/m`."""
    shutil.copytree(model, hub.root / "org" / "name")
    shutil.rmtree(model)
    download(hub, local_dir=model)


def cache_of_the_hub(model: Path, hub: HubProcess) -> None:
    """`HF_HUB_CACHE` on the share; the model is a link to its repository there."""
    shutil.copytree(model, hub.root / "org" / "name")
    shutil.rmtree(model)
    download(hub, cache_dir=model.parent / "hub")
    model.symlink_to("hub/models--org--name")


def snapshot_of_the_hub(model: Path, hub: HubProcess) -> None:
    """The same, to one commit of it."""
    cache_of_the_hub(model, hub)
    [snapshot] = (model / "snapshots").iterdir()
    model.unlink()
    model.symlink_to(f"hub/models--org--name/snapshots/{snapshot.name}")


@pytest.mark.parametrize(
    ("put", "weights", "config"),
    [
        pytest.param(nothing, TRUSTED, TRUSTED, id="nothing"),
        pytest.param(sums, SWORN, SWORN, id="SHA256SUMS"),
        pytest.param(tree_of_ours, SWORN, SWORN, id="a tree that we published"),
        pytest.param(download_of_the_hub, SWORN, GIT, id="the hub's own download"),
        pytest.param(cache_of_the_hub, SWORN, GIT, id="the hub's own cache"),
        pytest.param(snapshot_of_the_hub, SWORN, GIT, id="a snapshot in it"),
    ],
)
def test_what_lies_beside_the_files_vouches_for_them(
    share: Path,
    hub: HubProcess,
    layout: Layout,
    mounted: SourceSettings,
    put: Callable[[Path, HubProcess], None],
    weights: Algorithm,
    config: Algorithm,
) -> None:
    put(share / "m", hub)

    manifest = resolved(URI, mounted)
    published = brought(manifest, layout, mounted)

    assert algorithms(manifest) == {"model.safetensors": weights, "sub/config.json": config}
    assert (published.path / "model.safetensors").read_bytes() == WEIGHTS
    assert full(published.path, Transfer()) == []
    for folder, _, _ in os.walk(share):
        os.chmod(folder, 0o700)


def test_a_download_that_was_edited_since_is_taken_on_trust(
    share: Path, hub: HubProcess, mounted: SourceSettings
) -> None:
    download_of_the_hub(share / "m", hub)
    config = share / "m" / "sub" / "config.json"
    config.write_text('{"mine": 1}')
    later = config.stat().st_mtime + 60
    os.utime(config, (later, later))

    assert algorithms(resolved(URI, mounted)) == {"model.safetensors": SWORN, "sub/config.json": TRUSTED}


def test_a_cache_of_the_hub_is_at_the_revision_that_is_asked_for(
    share: Path, hub: HubProcess, mounted: SourceSettings
) -> None:
    cache_of_the_hub(share / "m", hub)
    [snapshot] = (share / "m" / "snapshots").iterdir()

    found = [resolved(URI, mounted, revision).resolved_revision for revision in (None, "main", snapshot.name)]

    assert found == [snapshot.name] * 3
    for revision in ("v2", "../refs", "a/../../x"):
        with pytest.raises(InvalidRequestError, match="revision"):
            resolved(URI, mounted, revision)


def test_a_file_of_a_tree_from_a_cache_of_the_hub_can_be_mended(
    share: Path, hub: HubProcess, mounted: SourceSettings
) -> None:
    """By who keeps the manifest, and lists nothing anew."""
    cache_of_the_hub(share / "m", hub)
    manifest = resolved(URI, mounted)

    with closing(open_source(URI, mounted, WallClock(), resolved_revision=manifest.resolved_revision)) as source:
        stream = source.open(manifest.files[0], 0, 5)
        count = stream.readinto(buffer := memoryview(bytearray(5)))
        stream.close()

    assert (count, bytes(buffer)) == (5, WEIGHTS[:5])


def test_a_list_of_digests_is_the_list_of_files(share: Path, mounted: SourceSettings) -> None:
    sum_up(share / "m")
    (share / "m" / "other.safetensors").write_bytes(b"not of this model")

    assert algorithms(resolved(URI, mounted)).keys() == {"model.safetensors", "sub/config.json"}


def test_a_manifest_of_another_program_says_nothing(share: Path, mounted: SourceSettings) -> None:
    (share / "m" / ".manifest.json").write_text('{"layers": []}')

    assert algorithms(resolved(URI, mounted)) == {"model.safetensors": TRUSTED, "sub/config.json": TRUSTED}


def test_snapshots_of_a_file_server_and_notes_of_clients_are_no_model(share: Path, mounted: SourceSettings) -> None:
    for name in (".snapshot", ".cache", "lost+found"):
        shutil.copytree(share / "m", share / name)

    assert algorithms(resolved("pvc://share", mounted)).keys() == {"m/model.safetensors", "m/sub/config.json"}


# --- what changed since it was listed ---


def rewrite(file: Path) -> None:
    file.write_bytes(bytes(len(WEIGHTS)))
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))


def flip(file: Path) -> None:
    """A bit that nobody notices but a digest."""
    before = file.stat()
    file.write_bytes(bytes([WEIGHTS[0] ^ 1]) + WEIGHTS[1:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(file: Path) -> None:
    os.truncate(file, 1000)


def unlink(file: Path) -> None:
    file.unlink()


def swap_for_a_link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("change", "has_sums", "reason"),
    [
        pytest.param(rewrite, False, FailureReason.INTEGRITY_MISMATCH, id="rewritten, on trust"),
        pytest.param(rewrite, True, FailureReason.INTEGRITY_MISMATCH, id="rewritten, sworn"),
        pytest.param(flip, True, FailureReason.INTEGRITY_MISMATCH, id="a bit, sworn"),
        pytest.param(truncate, True, FailureReason.INTEGRITY_MISMATCH, id="truncated"),
        pytest.param(unlink, True, FailureReason.INTEGRITY_MISMATCH, id="gone"),
        pytest.param(swap_for_a_link, True, FailureReason.INVALID_REQUEST, id="a link out of the claim"),
    ],
)
def test_what_changed_since_it_was_listed_is_never_published(
    share: Path,
    layout: Layout,
    mounted: SourceSettings,
    change: Callable[[Path], None],
    has_sums: bool,
    reason: FailureReason,
) -> None:
    if has_sums:
        sum_up(share / "m")
    manifest = resolved(URI, mounted)
    change(share / "m" / "model.safetensors")

    with closing(open_source(URI, mounted, WallClock())) as source, pytest.raises(CacheError) as caught:
        bring(layout, manifest, source, Transfer(retry_first_s=0.001), now_s=1000.0)

    failure = read_failure(layout, manifest.storage_key)
    assert caught.value.reason is reason
    assert failure is not None
    assert (failure.reason, failure.retry_at_s > 1000.0) == (reason, True)
    assert list(layout.models.iterdir()) == []


def test_a_new_version_in_the_same_folder_is_another_revision(
    share: Path, layout: Layout, mounted: SourceSettings
) -> None:
    sum_up(share / "m")
    before = brought(resolved(URI, mounted), layout, mounted)
    (share / "m" / "model.safetensors").write_bytes(WEIGHTS[::-1])
    sum_up(share / "m")

    after = brought(resolved(URI, mounted), layout, mounted)

    assert after.path == before.path
    assert after.manifest.resolved_revision != before.manifest.resolved_revision
    assert (after.path / "model.safetensors").read_bytes() == WEIGHTS[::-1]


def test_a_file_that_was_merely_touched_is_itself_where_it_has_a_digest(
    share: Path, layout: Layout, mounted: SourceSettings
) -> None:
    sum_up(share / "m")
    manifest = resolved(URI, mounted)
    os.utime(share / "m" / "model.safetensors")

    assert full(brought(manifest, layout, mounted).path, Transfer()) == []


def test_a_file_that_is_listed_and_not_there_is_said(share: Path, mounted: SourceSettings) -> None:
    sum_up(share / "m")
    (share / "m" / "model.safetensors").unlink()

    with pytest.raises(IntegrityMismatchError, match="listed, and not there"):
        resolved(URI, mounted)


def test_a_file_is_given_from_any_byte(share: Path, mounted: SourceSettings) -> None:
    entry = FileEntry(path="model.safetensors", size_bytes=len(WEIGHTS), algorithm=SWORN, digest="0" * 64)
    buffer = memoryview(bytearray(100))

    with closing(open_source(URI, mounted, WallClock())) as source:
        stream = source.open(entry, 77, 99)
        count = stream.readinto(buffer)
        rest = stream.readinto(buffer[count:])
        stream.close()

    assert (count, rest, bytes(buffer[:22])) == (22, 0, WEIGHTS[77:99])
