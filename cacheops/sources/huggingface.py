"""`hf://org/name[@revision]`: the hub's own client resolves and lists; the bytes come over our ranges.

A gated repository answers its tree to anyone but masks the digests of large files: that is a refusal, not a list.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import quote

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile

from cacheops.errors import AccessDeniedError, InvalidRequestError, SourceUnavailableError
from cacheops.guard import checked_files, shown
from cacheops.model import Algorithm, FileEntry, ModelManifest, ModelRef
from cacheops.transport import HttpRanges, RangeStream, Request
from cacheops.uri import SourceUri

LIST_TIMEOUT_S = 30.0

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
            info = self._api.model_info(self._repository, revision=ref.revision, timeout=LIST_TIMEOUT_S)
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
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as exc:
            raise SourceUnavailableError(f"hf://{self._repository}: {shown(str(exc))}") from exc
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
    wait = exc.response.headers.get("Retry-After", "") if exc.response is not None else ""
    return SourceUnavailableError(what, wait_s=float(wait[:6]) if wait.isdecimal() else 0.0)
