"""Where no link leads: names below a claim that climb, wind or hide, and what a file server may say."""

import errno
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from cacheops.download import Transfer
from cacheops.errors import FailureReason, InvalidRequestError
from cacheops.guard import DEPTH_MAX
from cacheops.layout import Layout
from cacheops.model import ModelManifest, ModelRef
from cacheops.prefetch import bring
from cacheops.sources import SourceSettings, open_source
from cacheops.sources.beneath import OutsideError, beneath
from cacheops.sources.folder import refused
from cacheops.uri import model_ref
from metrics.clock import WallClock

REF = model_ref("pvc://share/m")


def resolved(mounted: SourceSettings, ref: ModelRef = REF) -> ModelManifest:
    with closing(open_source(ref.uri, mounted, WallClock())) as source:
        return source.resolve(ref)


LINKS = {
    "absolute": ("model.gguf", "/etc/hostname", "an absolute path"),
    "climbs": ("model.gguf", "../../../secret", "leads out of"),
    "a folder outside": ("more", "../../other", "leads out of"),
    "into nowhere": ("model.gguf", "nothing", "No such file"),
    "to itself": ("model.gguf", "model.gguf", "a link on the way"),
    "round and round": ("sub/again", ".", "levels"),
}


@pytest.mark.parametrize(("name", "target", "words"), LINKS.values(), ids=LINKS.keys())
def test_a_link_that_leaves_the_claim_refuses_the_model(
    share: Path, mounted: SourceSettings, name: str, target: str, words: str
) -> None:
    shutil.copytree(share / "m", share.parent / "other")
    (share / "m" / name).symlink_to(target)

    with pytest.raises(InvalidRequestError, match=words):
        resolved(mounted)


def test_a_link_that_is_ignored_refuses_nothing(share: Path, mounted: SourceSettings) -> None:
    (share / "m" / "latest").symlink_to("/mnt/elsewhere")

    assert len(resolved(mounted, replace(REF, ignore=("latest",))).files) == 2


def test_links_that_stay_in_the_claim_are_followed(share: Path, layout: Layout, mounted: SourceSettings) -> None:
    (share / "stable").symlink_to("m/../m")
    (share / "m" / "draft").symlink_to("./sub/..//sub")

    ref = model_ref("pvc://share/stable")
    with closing(open_source(ref.uri, mounted, WallClock())) as source:
        published = bring(layout, source.resolve(ref), source, Transfer(), now_s=0.0)

    paths = [entry.path for entry in published.manifest.files]
    assert paths == ["draft/config.json", "model.safetensors", "sub/config.json"]
    assert not [path for path in published.path.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(
    "name", ["a\\b.json", "a\nb.json", "a\u202eb.json", "a .json/b.json ", "MODEL.safetensors", "\udcff.json"]
)
def test_hostile_names_in_a_claim_are_refused_by_the_guard(share: Path, mounted: SourceSettings, name: str) -> None:
    (share / "m" / name).parent.mkdir(exist_ok=True)
    (share / "m" / name).write_text("{}")

    with pytest.raises(InvalidRequestError, match="file list"):
        resolved(mounted, replace(REF, allow=("*",)))


def test_a_folder_that_is_too_deep_is_refused(share: Path, mounted: SourceSettings) -> None:
    (share / "m" / "/".join("d" * (DEPTH_MAX + 2))).mkdir(parents=True)

    with pytest.raises(InvalidRequestError, match="levels"):
        resolved(mounted)


def test_a_pipe_keeps_nobody_waiting(share: Path, mounted: SourceSettings) -> None:
    os.mkfifo(share / "m" / "SHA256SUMS")
    os.mkfifo(share / "m" / "pipe.json")

    assert len(resolved(mounted).files) == 2


NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=4).map("/".join)


@examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(links=st.dictionaries(st.tuples(NAMES, NAMES), TARGETS, max_size=4), path=TARGETS)
def test_what_is_found_is_what_the_kernel_finds_and_lies_beneath(
    tmp_path: Path, links: dict[tuple[str, str], str], path: str
) -> None:
    root = tmp_path / "root"
    shutil.rmtree(root, ignore_errors=True)
    for name in "abc":
        (root / name).mkdir(parents=True)
    for (folder, name), target in links.items():
        (root / folder / name).symlink_to(target)

    try:
        with beneath(root, path, follows_links=True) as place:
            found, number = place.path, place.found.st_ino
    except (OSError, OutsideError):
        return

    assert (root / path).stat().st_ino == number
    assert os.path.realpath(root / path) == os.path.normpath(os.path.realpath(root / found))
    assert ".." not in found.split("/")


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.EACCES, FailureReason.ACCESS_DENIED),
        (errno.EPERM, FailureReason.ACCESS_DENIED),
        (errno.ENOENT, FailureReason.INVALID_REQUEST),
        (errno.ENOTDIR, FailureReason.INVALID_REQUEST),
        (errno.ELOOP, FailureReason.INVALID_REQUEST),
        (errno.ESTALE, FailureReason.SOURCE_UNAVAILABLE),
        (errno.EIO, FailureReason.SOURCE_UNAVAILABLE),
        (errno.ETIMEDOUT, FailureReason.SOURCE_UNAVAILABLE),
    ],
    ids=lambda value: errno.errorcode[value] if isinstance(value, int) else "",
)
def test_what_a_file_server_says_is_not_our_own_disks_fault(number: int, reason: FailureReason) -> None:
    assert refused(OSError(number, os.strerror(number)), "source").reason is reason
