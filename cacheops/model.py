"""What a model's bytes are: where they come from, which files, and the digest that names the whole.

Values only. The digest of a manifest is sha256 over one line per file, `ALGORITHM:DIGEST SIZE PATH`, sorted by
the UTF-8 path; the source, its revision and the patterns are not part of it: the same files are the same model.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from fnmatch import fnmatchcase

from cacheops.errors import OtherContentError

STORAGE_KEY_HEX = 16  # KServe's own length: `models/<16 hex of sha256(uri)>`
# What an engine reads and nothing it would execute; code and pickles (`*.py`, `*.bin`, `*.pt`) are opt-in.
ALLOW_DEFAULT = ("*.safetensors", "*.gguf", "*.json", "*.txt", "*.jinja", "*.model", "*.tiktoken", "*.md", "LICENSE*")


def storage_key(uri: str) -> str:
    """The folder of a model: KServe's LocalModelCache derives the same from the same URI."""
    return hashlib.sha256(uri.encode()).hexdigest()[:STORAGE_KEY_HEX]


class Algorithm(StrEnum):
    """How a source vouches for a file."""

    SHA256 = "sha256"
    GIT_SHA1 = "git-sha1"  # sha1 of `blob SIZE NUL` and the bytes: the hub's name of a file outside LFS
    CRC32 = "crc32"  # these three: S3's full-object checksums; they guard against accidents, not against malice
    CRC32C = "crc32c"
    CRC64NVME = "crc64nvme"  # what S3 itself computes where the uploader gave none
    NONE = "none"  # only size and ETag are known: trust on first use


class Trust(StrEnum):
    """How sure it is that a file is what its publisher wrote."""

    DIGEST = "digest"  # the source gave a cryptographic digest before the first byte
    CHECKSUM = "checksum"  # the source's checksum agreed: no accident, perhaps malice
    FIRST_USE = "first use"  # nobody vouched: what came first counts from then on


CRYPTOGRAPHIC = frozenset({Algorithm.SHA256, Algorithm.GIT_SHA1})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef:
    """What was asked for. Patterns are shell patterns on the whole path; `ignore` wins."""

    uri: str
    revision: str | None = None
    allow: tuple[str, ...] = ALLOW_DEFAULT
    ignore: tuple[str, ...] = ()

    def wants(self, path: str) -> bool:
        """Whether a file of the source belongs to the model."""
        if any(fnmatchcase(path, pattern) for pattern in self.ignore):
            return False
        return any(fnmatchcase(path, pattern) for pattern in self.allow)

    @property
    def storage_key(self) -> str:
        """The folder of this model under `models/`."""
        return storage_key(self.uri)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a model, independent of the address it is fetched from."""

    path: str
    size_bytes: int
    algorithm: Algorithm = Algorithm.NONE
    digest: str | None = None
    etag: str | None = None  # what the source called these bytes; a different one means different bytes
    version: str | None = None  # under which the source still has them when others are current
    checksum: str | None = None  # `ALGORITHM:HEX` that the source gave and that agreed, of a file sealed on first use
    first_use: bool = False  # the digest is what we computed when we first fetched it, nobody vouched for it

    def __post_init__(self) -> None:
        if self.size_bytes < 0:
            raise ValueError(f"file {self.path!r}: size {self.size_bytes} is negative")
        if (self.digest is None) != (self.algorithm is Algorithm.NONE):
            raise ValueError(f"file {self.path!r}: algorithm {self.algorithm} with digest {self.digest!r}")

    @property
    def sworn(self) -> bool:
        """Whether a cryptographic digest is known before the bytes are."""
        return self.algorithm in CRYPTOGRAPHIC

    @property
    def trust(self) -> Trust:
        """What the bytes rest on."""
        if self.sworn and not self.first_use:
            return Trust.DIGEST
        has_checksum = self.checksum is not None or (self.digest is not None and not self.sworn)
        return Trust.CHECKSUM if has_checksum else Trust.FIRST_USE

    def line(self) -> str:
        """The file's line in the manifest's digest."""
        named = self.digest if self.digest is not None else (self.etag or "")
        return f"{self.algorithm}:{named} {self.size_bytes} {self.path}\n"

    def as_listed(self) -> "FileEntry":
        """As the source listed it, before the digest of first use was put in."""
        if not self.first_use:
            return self
        algorithm, _, digest = (self.checksum or Algorithm.NONE).partition(":")
        return replace(self, algorithm=Algorithm(algorithm), digest=digest or None, checksum=None, first_use=False)

    def is_same_as(self, other: "FileEntry") -> bool:
        """Whether both stand for the same bytes, as far as anyone can know."""
        if (self.path, self.size_bytes) != (other.path, other.size_bytes):
            return False
        if self.algorithm is other.algorithm and self.digest is not None:
            return self.digest == other.digest
        return self.etag is not None and self.etag == other.etag


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelManifest:
    """A model at one immutable revision. `digest` names its content, `bytes` is its size."""

    ref: ModelRef
    resolved_revision: str
    files: tuple[FileEntry, ...]
    content_digest: str = field(default="", compare=False)  # of what its sealed form must come to; empty: not known
    digest: str = field(init=False)
    bytes: int = field(init=False)

    def __post_init__(self) -> None:
        files = tuple(sorted(self.files, key=lambda entry: entry.path.encode()))
        text = "".join(entry.line() for entry in files)
        object.__setattr__(self, "files", files)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())
        object.__setattr__(self, "bytes", sum(entry.size_bytes for entry in files))

    @property
    def storage_key(self) -> str:
        """The folder of this model under `models/`."""
        return self.ref.storage_key

    def sealed(self, sha256_by_path: Mapping[str, str]) -> "ModelManifest":
        """Every file under a cryptographic digest: the source's where it has one, else the one we computed.

        OtherContentError: another node that fetched the same found other bytes.
        """
        files = tuple(entry if entry.sworn else _sealed(entry, sha256_by_path[entry.path]) for entry in self.files)
        sealed = replace(self, files=files)
        if self.content_digest not in ("", sealed.digest):
            words = (
                f"the bytes come to {sealed.digest[:16]}, those that were trusted first to {self.content_digest[:16]}"
            )
            raise OtherContentError(f"{self.ref.uri}: {words}")
        return sealed

    def as_listed(self) -> "ModelManifest":
        """What was sealed, as the source gave it: its digest names the model everywhere."""
        return replace(self, files=tuple(entry.as_listed() for entry in self.files))

    def is_same_as(self, other: "ModelManifest") -> bool:
        """Whether both list the same bytes; a sealed manifest equals the source's by its ETags."""
        return len(self.files) == len(other.files) and all(
            mine.is_same_as(theirs) for mine, theirs in zip(self.files, other.files, strict=True)
        )


def _sealed(entry: FileEntry, sha256: str) -> FileEntry:
    checksum = f"{entry.algorithm}:{entry.digest}" if entry.digest is not None else None
    return replace(entry, algorithm=Algorithm.SHA256, digest=sha256, first_use=True, checksum=checksum)
