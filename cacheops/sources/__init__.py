"""Where a model's bytes come from. `open_source` picks by scheme; clients load only when they are needed."""

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cacheops.addresses import AddressRules
from cacheops.model import FileEntry, ModelManifest, ModelRef
from cacheops.transport import STALL_S, HttpRanges, RangeStream
from cacheops.uri import Scheme, parse_uri
from metrics.clock import Clock

HUB_ENDPOINT = "https://huggingface.co"
CLAIMS = Path("/mnt/claims")  # as in manifests/components/claims
CLAIMS_VARIABLE = "WARMTIDE_CLAIMS"


class Source(Protocol):
    """A place that lists a model once and then gives byte ranges of it."""

    def resolve(self, ref: ModelRef) -> ModelManifest:
        """The files of a model at one immutable revision."""
        ...

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        """The bytes of a file from `start` on."""
        ...

    def close(self) -> None:
        """Close idle connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceSettings:
    """What an administrator sets for all models; no tenant chooses a host, a proxy or a certificate authority."""

    rules: AddressRules = field(default_factory=AddressRules)
    hub_endpoint: str = HUB_ENDPOINT
    hub_token: str | None = field(default=None, repr=False)
    s3_endpoint: str | None = None
    s3_region: str | None = None
    claims: Path = CLAIMS  # where PersistentVolumeClaims are mounted here, each under its name
    local_files: bool = False  # file:// reads whatever this process may read: for a laptop, never for tenants
    tls: ssl.SSLContext | None = None
    stall_s: float = STALL_S


def settings_from_environment(rules: AddressRules, *, local_files: bool, claims: Path | None = None) -> SourceSettings:
    """The usual variables: HF_ENDPOINT, HF_TOKEN, AWS_ENDPOINT_URL, WARMTIDE_CLAIMS; boto3 finds S3 credentials."""
    return SourceSettings(
        rules=rules,
        hub_endpoint=os.environ.get("HF_ENDPOINT", HUB_ENDPOINT).rstrip("/"),
        hub_token=os.environ.get("HF_TOKEN") or None,
        s3_endpoint=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None,
        s3_region=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None,
        claims=claims or Path(os.environ.get(CLAIMS_VARIABLE) or CLAIMS),
        local_files=local_files,
    )


def open_source(uri: str, settings: SourceSettings, clock: Clock, *, resolved_revision: str | None = None) -> Source:
    """The source of a URI; `resolved_revision` is what somebody else resolved it to, who keeps the manifest."""
    parsed = parse_uri(uri)
    http = HttpRanges(settings.rules, clock, tls=settings.tls, stall_s=settings.stall_s)
    match parsed.scheme:
        case Scheme.HF:
            from cacheops.sources.huggingface import HubAccess, HubSource

            access = HubAccess(endpoint=settings.hub_endpoint, token=settings.hub_token)
            return HubSource(parsed, http, access, commit=resolved_revision)
        case Scheme.S3:
            from cacheops.sources.s3 import S3Source

            return S3Source(parsed, http, endpoint=settings.s3_endpoint, region=settings.s3_region)
        case Scheme.HTTP | Scheme.HTTPS:
            from cacheops.sources.https import WebSource

            return WebSource(uri, http)
        case Scheme.FILE | Scheme.PVC:
            from cacheops.sources.file import FolderSource
            from cacheops.sources.folder import folder_of

            folder = folder_of(parsed, settings.claims, local_files=settings.local_files)
            return FolderSource(folder, revision=resolved_revision)
