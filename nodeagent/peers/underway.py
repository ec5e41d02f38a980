"""What others may have of a tree that is still being fetched: files that are whole and agreed with their digests."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cacheops.download import Transfer
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Underway:
    """A fetch as others see it."""

    manifest: ModelManifest
    whole: Mapping[int, Path]  # where a file lies that may be given, by its number in the manifest

    def as_published(self) -> Published:
        """With the list of files that the tree will have when it is published."""
        return Published(manifest=self.manifest, source_digest=self.manifest.digest, published_at_s=0.0, path=Path())


def underway(transfer: Transfer) -> Underway | None:
    """None before the first byte, and where the source gave no digest for some file.

    Whoever took such a file could not know whether it is the one that everybody gets: it waits for the whole tree,
    whose manifest has a digest for each.
    """
    manifest = transfer.manifest
    if manifest is None or any(not entry.sworn or entry.first_use for entry in manifest.files):
        return None
    return Underway(
        manifest=manifest, whole={file.index: file.path for file in transfer.files if file.sha256 is not None}
    )
