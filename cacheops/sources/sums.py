"""Digests that lie beside a model's files: `SHA256SUMS`, our own manifest, and what the hub's client leaves."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cacheops.errors import InvalidRequestError
from cacheops.guard import shown
from cacheops.model import Algorithm

SUMS_NAME = "SHA256SUMS"
SUMS_BYTES_MAX = 4 << 20  # 20,000 lines of 200 bytes
# What `hf download --local-dir` writes of each file: its commit, its ETag and the time of both, a line each
# (huggingface_hub, _local_folder.py).
HUB_RECORD = ".cache/huggingface/download/{path}.metadata"
HUB_RECORD_BYTES_MAX = 4096
HUB_CLOCK_SLACK_S = 1.0  # between a file system's clock and the client's, as the client itself has it

_SUM = re.compile(r"^([0-9a-f]{64}) [ *](.+)$")  # what sha256sum writes; a `\` before it marks an escaped name
_ETAGS: Mapping[int, Algorithm] = {64: Algorithm.SHA256, 40: Algorithm.GIT_SHA1}  # by length: in LFS, and outside
_HEX = re.compile(r"^[0-9a-f]+$")
_BLOB = re.compile(r"(?:^|/)models--[^/]+/blobs/([^/]+)$")  # the hub's cache names blobs by their ETags


@dataclass(frozen=True, slots=True)
class Sum:
    """What a file's bytes must come to."""

    algorithm: Algorithm
    digest: str


def sums_of(text: str) -> Iterator[tuple[str, Sum]]:
    """Path and digest of each line of a `SHA256SUMS`; InvalidRequestError names the line that is none."""
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not (found := _SUM.match(line)):
            raise InvalidRequestError(f"{SUMS_NAME}, line {number}: {shown(line)} is not `SHA256  PATH`")
        yield found[2].removeprefix("./"), Sum(Algorithm.SHA256, found[1])


def sum_of_blob(path: str) -> Sum | None:
    """By the name that a blob has in the hub's cache; None: it is none, or has no digest for a name."""
    found = _BLOB.search(path)
    return _sum_of_etag(found[1]) if found else None


def sum_of_record(text: str, *, modified_at_s: float) -> Sum | None:
    """By the record of a download; None: it is no record, or the file was changed since."""
    lines = text.splitlines()
    try:
        recorded_at_s = float(lines[2])
    except (IndexError, ValueError):
        return None
    is_current = modified_at_s - HUB_CLOCK_SLACK_S <= recorded_at_s
    return _sum_of_etag(lines[1].strip()) if is_current else None


def _sum_of_etag(etag: str) -> Sum | None:
    algorithm = _ETAGS.get(len(etag))
    return Sum(algorithm, etag) if algorithm and _HEX.match(etag) else None
