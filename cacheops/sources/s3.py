"""`s3://bucket/prefix`: boto3 lists and signs; the bytes come over our ranges from signed addresses.

An object's full checksum is used where S3 keeps one (sha256 as oath, the CRCs against accidents); without one its ETag
pins the bytes: trust on first use. In a versioned bucket each file is fetched at the version that was listed, also
when it was overwritten or deleted since.
"""

import base64
import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.loaders import Loader

from cacheops.errors import (
    AccessDeniedError,
    CacheError,
    IntegrityMismatchError,
    InvalidRequestError,
    SourceUnavailableError,
)
from cacheops.guard import FILES_MAX, checked_files, shown
from cacheops.model import Algorithm, FileEntry, ModelManifest, ModelRef
from cacheops.transport import HttpRanges, RangeStream, Request
from cacheops.uri import SourceUri

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

SIGNED_FOR_S = 900  # of one range's address: asked for anew each time, so a leaked one soon ends
HEADS_AT_ONCE = 8  # checksums need one request per object
KEYS_MAX = 50 * FILES_MAX  # listed, wanted or not: a bucket of millions ends here

# The surest first. A digest of digests of parts is none of the bytes, whatever its algorithm.
_CHECKSUMS = (
    (Algorithm.SHA256, "ChecksumSHA256"),
    (Algorithm.CRC64NVME, "ChecksumCRC64NVME"),
    (Algorithm.CRC32C, "ChecksumCRC32C"),
    (Algorithm.CRC32, "ChecksumCRC32"),
)
_DENIED = frozenset({"AccessDenied", "403", "401", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})
_CHANGED = frozenset({"412", "PreconditionFailed"})
_WRONG = frozenset({"NoSuchBucket", "NoSuchKey", "404", "InvalidBucketName", "400", "PermanentRedirect", "301"})


class _OnlyS3(Loader):
    """The library's own descriptions, of S3 only: it would look for 400 services to know that this is there."""

    def list_available_services(self, type_name: str) -> list[str]:
        return ["s3"]


_DESCRIPTIONS = _OnlyS3()  # read once: four fifths of what a client costs


class S3Source:
    """Objects below one prefix."""

    def __init__(self, uri: SourceUri, http: HttpRanges, *, endpoint: str | None, region: str | None) -> None:
        self._bucket = uri.place
        self._prefix = f"{uri.path}/" if uri.path else ""  # with the slash: `model` is not `model2`
        self._http = http
        # A session of its own: the module's shared one would keep the first credentials it ever saw.
        session = botocore.session.get_session()
        session.register_component("data_loader", _DESCRIPTIONS)
        self._s3: S3Client = boto3.session.Session(botocore_session=session).client(
            "s3",
            endpoint_url=endpoint,
            region_name=region,
            config=Config(
                signature_version="s3v4",  # the older kind is refused by most servers
                connect_timeout=10,
                read_timeout=30,
                retries={"max_attempts": 3, "mode": "standard"},
                s3={"addressing_style": "path"} if endpoint else {},
                max_pool_connections=HEADS_AT_ONCE,
            ),
        )

    def resolve(self, ref: ModelRef) -> ModelManifest:
        try:
            listed = checked_files(entry for entry in self._listed() if ref.wants(entry.path))
            with ThreadPoolExecutor(HEADS_AT_ONCE) as pool:
                files = tuple(pool.map(self._vouched, listed))
        except (ClientError, BotoCoreError) as exc:
            raise _refusal(f"s3://{self._bucket}/{self._prefix}", exc) from exc
        text = "".join(f"{entry.line()}{entry.version or ''}\n" for entry in files)
        return ModelManifest(ref=ref, resolved_revision=hashlib.sha256(text.encode()).hexdigest(), files=files)

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        asked = {"Bucket": self._bucket, "Key": self._prefix + entry.path}
        if entry.version:
            asked["VersionId"] = entry.version
        try:
            url = self._s3.generate_presigned_url("get_object", Params=asked, ExpiresIn=SIGNED_FOR_S)
        except (ClientError, BotoCoreError) as exc:
            raise _refusal(f"s3://{self._bucket}/{asked['Key']}", exc) from exc
        return self._http.get(Request(url=url, start=start, stop=stop, size_bytes=entry.size_bytes, etag=entry.etag))

    def close(self) -> None:
        self._http.close()
        self._s3.close()

    def _listed(self) -> Iterator[FileEntry]:
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
        seen = 0
        for page in pages:
            for item in page.get("Contents", ()):
                seen += 1
                if seen > KEYS_MAX:
                    raise InvalidRequestError(f"s3://{self._bucket}/{self._prefix}: more than {KEYS_MAX} objects")
                path = item["Key"].removeprefix(self._prefix)
                if path and not path.endswith("/"):  # consoles leave empty objects for folders
                    yield FileEntry(path=path, size_bytes=item["Size"], etag=item["ETag"].strip('"'))

    def _vouched(self, entry: FileEntry) -> FileEntry:
        """An entry with its version and, where S3 keeps one of the whole object, its checksum."""
        head: Any = self._s3.head_object(
            Bucket=self._bucket, Key=self._prefix + entry.path, ChecksumMode="ENABLED", IfMatch=f'"{entry.etag}"'
        )
        version = head.get("VersionId")
        algorithm, digest = _checksum(head)
        return FileEntry(
            path=entry.path,
            size_bytes=head["ContentLength"],
            algorithm=algorithm,
            digest=digest,
            etag=entry.etag,
            version=version
            if version != "null"
            else None,  # written before versioning was on: the next one replaces it
        )


def _checksum(head: dict[str, Any]) -> tuple[Algorithm, str | None]:
    """What S3 vouches with. A checksum of checksums (multipart, `…-7`) is none of the bytes."""
    for algorithm, name in _CHECKSUMS:
        text = head.get(name)
        if text and "-" not in text and head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT":
            return algorithm, base64.b64decode(text).hex()
    return Algorithm.NONE, None


def _refusal(what: str, exc: ClientError | BotoCoreError) -> CacheError:
    if isinstance(exc, NoCredentialsError):
        return AccessDeniedError(f"{what}: no credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE or a role gives them)")
    if not isinstance(exc, ClientError):
        return SourceUnavailableError(f"{what}: {type(exc).__name__}")
    code = exc.response.get("Error", {}).get("Code", "")
    if code in _DENIED:
        return AccessDeniedError(f"{what}: {shown(code)}")
    if code in _CHANGED:
        return IntegrityMismatchError(f"{what}: an object changed while the bucket was listed")
    if code in _WRONG:
        return InvalidRequestError(f"{what}: {shown(code)}")
    return SourceUnavailableError(f"{what}: {shown(code)}")
