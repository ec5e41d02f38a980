"""Source URIs: `hf://org/name[@rev]`, `s3://bucket/prefix`, `https://…`, `pvc://claim/path`, `file:///path`."""

import re
from dataclasses import dataclass
from enum import StrEnum

from cacheops.errors import InvalidRequestError
from cacheops.guard import shown
from cacheops.model import ALLOW_DEFAULT, ModelRef

URI_CHARS_MAX = 2048

_HF_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")  # the hub's own rule for users and repositories
_HF_REVISION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/+-]{0,254}$")
_BUCKET = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")  # S3's naming rule
_CLAIM = re.compile(r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")  # a Kubernetes name


class Scheme(StrEnum):
    """Where bytes can come from."""

    HF = "hf"
    S3 = "s3"
    HTTP = "http"
    HTTPS = "https"
    PVC = "pvc"
    FILE = "file"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceUri:
    """A parsed URI: `place` is the repository, bucket, claim or host, `path` what follows it."""

    scheme: Scheme
    place: str
    path: str = ""
    revision: str | None = None


def parse_uri(uri: str) -> SourceUri:
    """Typed parts of a source URI, or InvalidRequestError that names it."""
    if len(uri) > URI_CHARS_MAX or not uri.isprintable():
        raise InvalidRequestError(f"source {shown(uri)}: more than {URI_CHARS_MAX} characters, or not printable")
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme not in set(Scheme):
        raise InvalidRequestError(f"source {shown(uri)}: starts with none of {', '.join(f'{s}://' for s in Scheme)}")
    match Scheme(scheme):
        case Scheme.HF:
            return _hf(uri, rest)
        case Scheme.FILE:
            return _file(uri, rest)
        case Scheme.S3:
            return _placed(uri, Scheme.S3, rest, _BUCKET)
        case Scheme.PVC:
            return _placed(uri, Scheme.PVC, rest, _CLAIM)
        case Scheme.HTTP | Scheme.HTTPS as web:
            host, _, path = rest.partition("/")
            return SourceUri(scheme=web, place=host, path=path)


def model_ref(uri: str, *, allow: tuple[str, ...] = ALLOW_DEFAULT, ignore: tuple[str, ...] = ()) -> ModelRef:
    """A reference to what a URI names, its revision included."""
    return ModelRef(uri=uri, revision=parse_uri(uri).revision, allow=allow, ignore=ignore)


def _hf(uri: str, rest: str) -> SourceUri:
    """`org/name`, `org/name@rev` and KServe's `org/name:rev`."""
    repo, mark, revision = rest.partition("@") if "@" in rest else rest.partition(":")
    names = repo.split("/")
    if len(names) != 2 or not all(_HF_NAME.match(name) and ".." not in name for name in names):
        raise InvalidRequestError(f"source {shown(uri)}: expected hf://org/name[@revision]")
    if mark and (not _HF_REVISION.match(revision) or ".." in revision):
        raise InvalidRequestError(f"source {shown(uri)}: revision {shown(revision)}")
    return SourceUri(scheme=Scheme.HF, place=repo, revision=revision or None)


def _file(uri: str, rest: str) -> SourceUri:
    if not rest.startswith("/"):
        raise InvalidRequestError(f"source {shown(uri)}: file:// needs an absolute path")
    return SourceUri(scheme=Scheme.FILE, place="", path=rest)


def _placed(uri: str, scheme: Scheme, rest: str, rule: re.Pattern[str]) -> SourceUri:
    place, _, path = rest.partition("/")
    if not rule.match(place):
        raise InvalidRequestError(f"source {shown(uri)}: {shown(place)} is no name of a bucket or claim")
    return SourceUri(scheme=scheme, place=place, path=path.strip("/"))
