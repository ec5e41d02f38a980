"""`hf://org/name[@revision]`: the hub's own client resolves and lists; the bytes come over our ranges.

A gated repository answers its tree to anyone but masks the digests of large files: that is a refusal, not a list.

The library's own client waits without end for an answer that drips, sleeps as long as a Retry-After says, and takes
a page of any size; ours (it keeps one per process, and this module is its only home) bounds all three.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin

from huggingface_hub import HfApi, set_client_factory
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is that of the httpx it uses
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils._http import default_client_factory  # no public way to a client with the library's headers

from cacheops.addresses import origin_of, redacted
from cacheops.errors import AccessDeniedError, InvalidRequestError, SourceUnavailableError
from cacheops.guard import checked_files, shown
from cacheops.model import Algorithm, FileEntry, ModelManifest, ModelRef
from cacheops.transport import HttpRanges, RangeStream, Request, retry_after_of
from cacheops.uri import SourceUri
from metrics.clock import WallClock

SILENCE_S = 30.0  # of the hub while it lists, which may have to compute; the library asks six times
PAGE_S = 60.0  # for one page, however it comes
PAGE_BYTES_MAX = 16 << 20  # a page has 1,000 rows of some hundred bytes

_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAccess:
    """Which hub, and as whom."""

    endpoint: str
    token: str | None = field(default=None, repr=False)


class HubSource:
    """A repository of models."""

    def __init__(self, uri: SourceUri, http: HttpRanges, access: HubAccess, *, commit: str | None = None) -> None:
        self._repository = uri.place
        self._http = http
        self._endpoint = access.endpoint
        self._secret_headers = {"Authorization": f"Bearer {access.token}"} if access.token else {}
        self._api = HfApi(endpoint=access.endpoint, token=access.token or False)  # False: no token of the machine's
        self._commit = commit

    def resolve(self, ref: ModelRef) -> ModelManifest:
        try:
            info = self._api.model_info(self._repository, revision=ref.revision, timeout=SILENCE_S)
            commit = info.sha or ""
            if not _COMMIT.match(commit):
                raise SourceUnavailableError(f"hf://{self._repository}: revision {shown(commit)} is no commit")
            tree = self._api.list_repo_tree(self._repository, revision=commit, recursive=True)
            files = checked_files(_entries(tree, ref))
        except (GatedRepoError, RepositoryNotFoundError) as exc:  # the hub says 401 for what one may not see
            raise AccessDeniedError(f"hf://{self._repository}: not found, or not with this token") from exc
        except (RevisionNotFoundError, HFValidationError) as exc:
            raise InvalidRequestError(f"hf://{self._repository}: no revision {shown(ref.revision or '')}") from exc
        except HfHubHTTPError as exc:
            raise _refusal(self._repository, exc) from exc
        except (HTTPError, OSError, ValueError, KeyError, TypeError, RuntimeError) as exc:
            words = shown(str(exc) or type(exc).__name__)
            raise SourceUnavailableError(f"hf://{self._repository}: {self._endpoint}: {words}") from exc
        self._commit = commit
        return ModelManifest(ref=ref, resolved_revision=commit, files=files)

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        if self._commit is None:
            raise InvalidRequestError(f"hf://{self._repository}: opened before it was resolved")
        # Every range asks the hub anew: its redirect carries a signature that outlives a range, not a download.
        path = f"{self._repository}/resolve/{self._commit}/{quote(entry.path)}"
        return self._http.get(
            Request(
                url=f"{self._endpoint}/{path}",
                secret_headers=self._secret_headers,
                start=start,
                stop=stop,
                size_bytes=entry.size_bytes,
            )
        )

    def close(self) -> None:
        self._http.close()


def _entries(tree: Iterable[object], ref: ModelRef) -> Iterator[FileEntry]:
    """The wanted files of a listing, each with the digest that the hub vouches for."""
    for item in tree:
        if not isinstance(item, RepoFile) or not ref.wants(item.path):
            continue
        if item.lfs is None:
            algorithm, digest, rule = Algorithm.GIT_SHA1, item.blob_id, _COMMIT
        else:
            algorithm, digest, rule = Algorithm.SHA256, item.lfs.sha256, _SHA256
        if "*" in digest:
            raise AccessDeniedError(f"{shown(item.path)}: the hub masks its digest: accept the licence of the model")
        if not rule.match(digest):
            raise InvalidRequestError(f"file list: {shown(item.path)}: {shown(digest)} is no {algorithm}")
        yield FileEntry(path=item.path, size_bytes=item.size, algorithm=algorithm, digest=digest)


def _refusal(repository: str, exc: HfHubHTTPError) -> Exception:
    status = exc.response.status_code if exc.response is not None else 0
    what = f"hf://{repository}: HTTP {status}"
    if status in {401, 403}:
        return AccessDeniedError(what)
    if 400 <= status < 500 and status not in {408, 429}:
        return InvalidRequestError(what)
    return SourceUnavailableError(what)


def _bounded_client() -> Any:
    """The library's client with an end to everything."""
    client = default_client_factory()
    client.timeout = SILENCE_S
    client.event_hooks["response"].append(_judge)
    return client


def _judge(answer: Any) -> None:
    """Called for each answer before its body is read: refuse what must not be waited for or followed, then read it."""
    what = f"{redacted(str(answer.url))}: HTTP {answer.status_code}"
    if answer.status_code == 429 or answer.status_code >= 500:
        raise SourceUnavailableError(what, wait_s=retry_after_of(answer.headers.get))
    onward = [answer.headers["Location"]] if answer.has_redirect_location else []
    onward += [link["url"] for link in answer.links.values() if "url" in link]
    for target in onward:  # the library would send its token along
        if origin_of(urljoin(str(answer.url), target)) != origin_of(str(answer.url)):
            raise InvalidRequestError(f"{what}: leads from the hub to {redacted(target)}")
    if not answer.has_redirect_location:
        _read(answer, what)


def _read(answer: Any, what: str) -> None:
    """The body, within bounds of time and memory."""
    clock, body = WallClock(), bytearray()
    until_s = clock.now_s() + PAGE_S
    for chunk in answer.iter_bytes():
        body += chunk
        if len(body) > PAGE_BYTES_MAX:
            raise InvalidRequestError(f"{what}: a page of more than {PAGE_BYTES_MAX} bytes")
        if clock.now_s() > until_s:
            raise SourceUnavailableError(f"{what}: a page that takes more than {PAGE_S:.0f} s")
    answer._content = bytes(body)  # where the client itself would put it


set_client_factory(_bounded_client)
