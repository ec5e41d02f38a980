"""`.manifest.json` inside a published tree: what lies there, written once and read with suspicion."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cacheops.errors import CacheError, IntegrityMismatchError
from cacheops.guard import MANIFEST_NAME, checked_files, shown
from cacheops.model import Algorithm, FileEntry, ModelManifest, ModelRef

VERSION = 1
MANIFEST_BYTES_MAX = 64 << 20  # 20,000 files of 1 kB names and digests are half of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A tree on disk: every file under a cryptographic digest."""

    manifest: ModelManifest
    source_digest: str  # of the manifest as the source gave it; other than the sealed one where digests were missing
    published_at_s: float
    path: Path

    @property
    def content_digest(self) -> str:
        """Of the bytes, where the source gave no digests for some; empty: `source_digest` says it all."""
        return "" if self.manifest.digest == self.source_digest else self.manifest.digest


def encode(published: Published) -> bytes:
    """The file's text."""
    manifest = published.manifest
    body = {
        "version": VERSION,
        "uri": manifest.ref.uri,
        "revision": manifest.ref.revision,
        "resolvedRevision": manifest.resolved_revision,
        "allow": manifest.ref.allow,
        "ignore": manifest.ref.ignore,
        "digest": manifest.digest,
        "sourceDigest": published.source_digest,
        "sizeBytes": manifest.bytes,
        "publishedAt": published.published_at_s,
        "files": [_row(entry) for entry in manifest.files],
    }
    return json.dumps(body, indent=1).encode() + b"\n"


def read_published(tree: Path) -> Published:
    """What a tree says it is, or IntegrityMismatchError."""
    path = tree / MANIFEST_NAME
    try:
        with path.open("rb") as file:
            text = file.read(MANIFEST_BYTES_MAX)
    except OSError as exc:
        raise IntegrityMismatchError(f"{path}: no manifest of ours: {exc}") from exc
    published = decode(text, tree, name=str(path))
    if published.manifest.storage_key != tree.name:
        raise IntegrityMismatchError(f"{path}: is of {shown(published.manifest.ref.uri)}, which lies elsewhere")
    return published


def decode(text: bytes, tree: Path, *, name: str) -> Published:
    """The manifest of a tree from its text, which `name` says the origin of; IntegrityMismatchError."""
    try:
        body = json.loads(text)
        published = _decoded(body, tree)
    except (ValueError, KeyError, TypeError, AttributeError, CacheError) as exc:
        raise IntegrityMismatchError(f"{name}: no manifest of ours: {exc}") from exc
    if published.manifest.digest != body["digest"]:
        raise IntegrityMismatchError(f"{name}: lists {published.manifest.digest}, claims {body['digest']}")
    listed = published.manifest.as_listed().digest
    if listed != published.source_digest:
        raise IntegrityMismatchError(f"{name}: lists {listed} of the source, claims {published.source_digest[:64]}")
    return published


def _row(entry: FileEntry) -> dict[str, Any]:
    row: dict[str, Any] = {"path": entry.path, "size": entry.size_bytes, "digest": f"{entry.algorithm}:{entry.digest}"}
    row |= {
        name: value
        for name, value in (("etag", entry.etag), ("version", entry.version), ("checksum", entry.checksum))
        if value is not None
    }
    if entry.first_use:
        row["firstUse"] = True
    return row


def _decoded(body: dict[str, Any], tree: Path) -> Published:
    ref = ModelRef(
        uri=str(body["uri"]), revision=body["revision"], allow=tuple(body["allow"]), ignore=tuple(body["ignore"])
    )
    files = checked_files(_entry(row) for row in body["files"])
    return Published(
        manifest=ModelManifest(ref=ref, resolved_revision=str(body["resolvedRevision"]), files=files),
        source_digest=str(body["sourceDigest"]),
        published_at_s=float(body["publishedAt"]),
        path=tree,
    )


def _entry(row: dict[str, Any]) -> FileEntry:
    algorithm, _, digest = row["digest"].partition(":")
    return FileEntry(
        path=row["path"],
        size_bytes=int(row["size"]),
        algorithm=Algorithm(algorithm),
        digest=digest,
        etag=row.get("etag"),
        version=row.get("version"),
        checksum=row.get("checksum"),
        first_use=bool(row.get("firstUse", False)),
    )
