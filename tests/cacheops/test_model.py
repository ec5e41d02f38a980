"""References, manifests and URIs: what is the same model, and what is no model at all."""

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheops.errors import (
    RETRY_FIRST_S,
    RETRY_MAX_S,
    FailureReason,
    IntegrityMismatchError,
    InvalidRequestError,
    retry_after_s,
)
from cacheops.manifest_file import Published, encode, read_published
from cacheops.model import Algorithm, FileEntry, ModelManifest, ModelRef, storage_key
from cacheops.uri import Scheme, model_ref, parse_uri

SHA = "ab" * 32


def entry(path: str = "a.json", digest: str | None = SHA, **known: object) -> FileEntry:
    algorithm = Algorithm.SHA256 if digest else Algorithm.NONE
    return FileEntry(path=path, size_bytes=3, algorithm=algorithm, digest=digest, **known)  # type: ignore[arg-type]


def manifest(*files: FileEntry, revision: str = "r1", uri: str = "hf://o/n") -> ModelManifest:
    return ModelManifest(ref=ModelRef(uri=uri), resolved_revision=revision, files=files)


def test_the_storage_key_is_the_front_of_the_uris_sha256() -> None:
    assert storage_key("hf://meta-llama/meta-llama-3-8b-instruct") == "c277d78a31bc6624"


def test_the_digest_is_of_sorted_lines_and_names_the_content_alone() -> None:
    text = f"sha256:{SHA} 3 a.json\nsha256:{SHA} 3 b.json\n"
    one = manifest(entry("b.json"), entry("a.json"))

    assert one.digest == hashlib.sha256(text.encode()).hexdigest()
    assert one.digest == manifest(entry("a.json"), entry("b.json"), revision="r2", uri="s3://b/n").digest
    assert one.bytes == 6


@given(st.permutations([entry(name) for name in ("a", "b/c", "é", "Z", "b")]))
def test_the_order_of_a_list_does_not_matter(files: list[FileEntry]) -> None:
    assert manifest(*files).digest == manifest(*reversed(files)).digest


def test_sealing_gives_every_file_a_digest_and_stays_the_same_model() -> None:
    listed = manifest(entry("a.json"), entry("b.json", None, etag="e1"))

    sealed = listed.sealed({"b.json": "cd" * 32})

    assert [(file.digest, file.first_use) for file in sealed.files] == [(SHA, False), ("cd" * 32, True)]
    assert sealed.is_same_as(listed)
    assert not sealed.is_same_as(manifest(entry("a.json"), entry("b.json", None, etag="e2")))
    assert not sealed.is_same_as(manifest(entry("a.json")))


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    sealed = manifest(entry("a.json"), entry("b/é.json", "cd" * 32, etag='"e"', first_use=True))
    listed = manifest(entry("a.json"), entry("b/é.json", None, etag='"e"'))
    tree = tmp_path / sealed.storage_key
    published = Published(manifest=sealed, source_digest=listed.digest, published_at_s=7.5, path=tree)
    tree.mkdir()
    (tree / ".manifest.json").write_bytes(encode(published))

    assert read_published(tree) == published


@pytest.mark.parametrize(
    ("key", "source_digest", "words"),
    [("0" * 16, None, "lies elsewhere"), (None, "0" * 64, "of the source, claims 000")],
    ids=["in another model's folder", "of another list"],
)
def test_a_manifest_that_is_not_of_this_tree_is_refused(
    tmp_path: Path, key: str | None, source_digest: str | None, words: str
) -> None:
    sealed = manifest(entry("a.json"))
    tree = tmp_path / (key or sealed.storage_key)
    published = Published(manifest=sealed, source_digest=source_digest or sealed.digest, published_at_s=7.5, path=tree)
    tree.mkdir()
    (tree / ".manifest.json").write_bytes(encode(published))

    with pytest.raises(IntegrityMismatchError, match=words):
        read_published(tree)


@pytest.mark.parametrize(
    "bad", [{"size_bytes": -1}, {"size_bytes": 1, "digest": SHA}, {"size_bytes": 1, "algorithm": Algorithm.SHA256}]
)
def test_an_entry_that_cannot_be_is_not_built(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="a"):
        FileEntry(path="a", **bad)  # type: ignore[arg-type]


def test_code_and_pickles_need_to_be_asked_for() -> None:
    ref = ModelRef(uri="hf://o/n")

    assert [path for path in ("a.safetensors", "x/config.json", "m.bin", "m.pt", "run.py") if ref.wants(path)] == [
        "a.safetensors",
        "x/config.json",
    ]
    assert ModelRef(uri="hf://o/n", allow=("*",), ignore=("*.bin",)).wants("run.py")
    assert not ModelRef(uri="hf://o/n", allow=("*",), ignore=("*.bin",)).wants("m.bin")


@pytest.mark.parametrize(
    ("uri", "scheme", "place", "path", "revision"),
    [
        ("hf://org/name", Scheme.HF, "org/name", "", None),
        ("hf://org/name@main", Scheme.HF, "org/name", "", "main"),
        ("hf://org/name:v1.0", Scheme.HF, "org/name", "", "v1.0"),
        ("hf://org/name@refs/pr/3", Scheme.HF, "org/name", "", "refs/pr/3"),
        ("s3://bucket/a/b/", Scheme.S3, "bucket", "a/b", None),
        ("pvc://claim/models/x", Scheme.PVC, "claim", "models/x", None),
        ("https://host:8/a/b", Scheme.HTTPS, "host:8", "a/b", None),
        ("file:///a/b", Scheme.FILE, "", "/a/b", None),
    ],
)
def test_uris_are_read(uri: str, scheme: Scheme, place: str, path: str, revision: str | None) -> None:
    parsed = parse_uri(uri)

    assert (parsed.scheme, parsed.place, parsed.path, parsed.revision) == (scheme, place, path, revision)
    assert model_ref(uri).revision == revision


@pytest.mark.parametrize(
    "uri",
    [
        *("", "name", "org/name", "git://x/y", "hf://name", "hf://a/b/c", "hf://../x", "hf://org/..", "hf://org/na me"),
        *("hf://org/name@", "hf://org/name@../x", "s3:///x", "s3://UPPER/x", "s3://a/x", "pvc://", "file://x"),
        *("hf://org/name\n", "hf://org/" + "x" * 3000),
    ],
)
def test_what_is_no_uri_is_refused_by_name(uri: str) -> None:
    with pytest.raises(InvalidRequestError, match="source"):
        parse_uri(uri)


@pytest.mark.parametrize("reason", FailureReason)
@given(attempts=st.integers(0, 10_000), wait_s=st.floats(0, 1e9))
def test_every_failure_is_tried_again_within_an_hour_and_not_within_a_minute(
    reason: FailureReason, attempts: int, wait_s: float
) -> None:
    assert RETRY_FIRST_S <= retry_after_s(reason, attempts, wait_s=wait_s) <= RETRY_MAX_S
