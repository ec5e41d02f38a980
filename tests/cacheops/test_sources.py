"""Each source lists, vouches and refuses in the same words, and every list passes the same guard."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, snapshot_download

from cacheops.addresses import AddressRules
from cacheops.download import Transfer
from cacheops.errors import CacheError, InvalidRequestError, SourceUnavailableError
from cacheops.layout import Layout
from cacheops.manifest_file import Published
from cacheops.model import Algorithm, ModelManifest
from cacheops.prefetch import bring
from cacheops.sources import SourceSettings, open_source
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import WallClock
from simulations.hub import HubProcess
from simulations.origin import Origin

LOOPBACK = AddressRules(hosts=frozenset({"127.0.0.1", "localhost"}))
WEIGHTS = os.urandom(3 << 20)


def resolved(uri: str, settings: SourceSettings) -> ModelManifest:
    with closing(open_source(uri, settings, WallClock())) as source:
        return source.resolve(model_ref(uri))


def brought(uri: str, layout: Layout, settings: SourceSettings) -> Published:
    with closing(open_source(uri, settings, WallClock())) as source:
        return bring(layout, source.resolve(model_ref(uri)), source, Transfer(range_bytes=1 << 20), now_s=0.0)


def write_model(folder: Path) -> None:
    (folder / "sub").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "sub" / "config.json").write_text("{}")
    (folder / "train.py").write_text("import os")


def test_a_hub_model_has_the_hubs_digests_and_leaves_code_behind(
    hub: HubProcess, layout: Layout, settings: SourceSettings
) -> None:
    write_model(hub.root / "org" / "name")
    there = replace(settings, hub_endpoint=hub.endpoint)

    published = brought("hf://org/name", layout, there)

    by_path = {entry.path: entry.algorithm for entry in published.manifest.files}
    assert by_path == {"model.safetensors": Algorithm.SHA256, "sub/config.json": Algorithm.GIT_SHA1}
    assert full(published.path, Transfer()) == []


def test_the_hubs_own_client_finds_the_model_offline(hub: HubProcess, layout: Layout, settings: SourceSettings) -> None:
    write_model(hub.root / "org" / "name")
    published = brought("hf://org/name", layout, replace(settings, hub_endpoint=hub.endpoint))

    found = snapshot_download("org/name", cache_dir=layout.hub, local_files_only=True)
    file = hf_hub_download("org/name", "sub/config.json", cache_dir=layout.hub, local_files_only=True)

    assert Path(found).name == published.manifest.resolved_revision
    assert (Path(found) / "model.safetensors").samefile(published.path / "model.safetensors")
    assert Path(file).read_text() == "{}"


def test_a_hub_model_that_is_not_there_is_refused(hub: HubProcess, settings: SourceSettings) -> None:
    there = replace(settings, hub_endpoint=hub.endpoint)
    write_model(hub.root / "org" / "name")

    with pytest.raises(CacheError):
        resolved("hf://org/nothing", there)
    with pytest.raises(InvalidRequestError):
        resolved("hf://org/name@v9", there)


def test_a_hostile_checksum_file_is_refused_before_any_other_request(origin: Origin, settings: SourceSettings) -> None:
    origin.add("/m/SHA256SUMS", f"{'0' * 64}  ../../etc/cron.d/x.json\n".encode())

    with pytest.raises(InvalidRequestError, match="file list"):
        resolved(f"{origin.url}/m/", settings)
    assert [path for _, path, _ in origin.seen] == ["/m/SHA256SUMS"]


@pytest.mark.parametrize("text", [b"no sums here\n", b"\xff\xfe", b"x" * (5 << 20)], ids=["words", "bytes", "huge"])
def test_a_checksum_file_that_is_none_is_refused(origin: Origin, settings: SourceSettings, text: bytes) -> None:
    origin.add("/m/SHA256SUMS", text)

    with pytest.raises(InvalidRequestError):
        resolved(f"{origin.url}/m/", settings)


def test_a_folder_gives_regular_files_only(tmp_path: Path, layout: Layout, settings: SourceSettings) -> None:
    folder = tmp_path / "model"
    write_model(folder)
    (folder / "link.json").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.json")

    published = brought(f"file://{folder}", layout, settings)

    assert [entry.path for entry in published.manifest.files] == ["model.safetensors", "sub/config.json"]


@pytest.mark.parametrize("path", ["../secret", "a/../../secret", "link"], ids=["parent", "inside", "symlink"])
def test_a_claim_is_not_left(tmp_path: Path, settings: SourceSettings, path: str) -> None:
    (tmp_path / "claim").mkdir()
    write_model(tmp_path / "secret")
    (tmp_path / "claim" / "link").symlink_to(tmp_path / "secret")
    mounted = replace(settings, claims=tmp_path)

    with pytest.raises(InvalidRequestError):
        resolved(f"pvc://claim/{path}", mounted)


def test_local_files_and_unmounted_claims_are_refused(tmp_path: Path, settings: SourceSettings) -> None:
    write_model(tmp_path / "m")

    with pytest.raises(InvalidRequestError, match="not allowed"):
        resolved(f"file://{tmp_path}/m", replace(settings, local_files=False))
    with pytest.raises(SourceUnavailableError, match="not mounted"):  # it may be, in a minute
        resolved("pvc://models/m", settings)
