"""`https://…/folder/` with a `SHA256SUMS` file, or `https://…/file` alone: the latter on first use is trusted.

A folder's list is untrusted text like any other; sizes and ETags come from one HEAD per file.
"""

import hashlib
from dataclasses import replace
from itertools import islice
from urllib.parse import quote, unquote, urljoin, urlsplit

from cacheops.errors import InvalidRequestError
from cacheops.guard import FILES_MAX, checked_files, shown
from cacheops.model import FileEntry, ModelManifest, ModelRef
from cacheops.sources.sums import SUMS_BYTES_MAX, SUMS_NAME, sums_of
from cacheops.transport import HttpRanges, RangeStream, Request


class WebSource:
    """Files under one URL."""

    def __init__(self, uri: str, http: HttpRanges) -> None:
        if urlsplit(uri).query or urlsplit(uri).fragment:
            raise InvalidRequestError(f"source {shown(uri.split('?')[0])}: a query does not belong in a model's URI")
        self._uri = uri
        self._http = http

    def resolve(self, ref: ModelRef) -> ModelManifest:
        files = self._single() if not self._uri.endswith("/") else self._summed(ref)
        text = "".join(entry.line() for entry in files)
        return ModelManifest(ref=ref, resolved_revision=hashlib.sha256(text.encode()).hexdigest(), files=files)

    def open(self, entry: FileEntry, start: int, stop: int) -> RangeStream:
        return self._http.get(
            Request(url=self._url(entry.path), start=start, stop=stop, size_bytes=entry.size_bytes, etag=entry.etag)
        )

    def close(self) -> None:
        self._http.close()

    def _url(self, path: str) -> str:
        return urljoin(self._uri, quote(path)) if self._uri.endswith("/") else self._uri

    def _single(self) -> tuple[FileEntry, ...]:
        name = unquote(urlsplit(self._uri).path.rsplit("/", 1)[-1])
        size_bytes, etag = self._head(self._uri)
        return checked_files([FileEntry(path=name, size_bytes=size_bytes, etag=etag)])

    def _summed(self, ref: ModelRef) -> tuple[FileEntry, ...]:
        stream = self._http.get(Request(url=urljoin(self._uri, SUMS_NAME)))
        try:
            text = stream.read_text(SUMS_BYTES_MAX)
        finally:
            stream.close()
        sums = list(islice(sums_of(text), FILES_MAX + 1))  # with every line: a name with two digests is refused
        # Names are judged before the first HEAD: a hostile list makes no request.
        named = checked_files(
            FileEntry(path=path, size_bytes=0, algorithm=found.algorithm, digest=found.digest)
            for path, found in sums
            if ref.wants(path)
        )
        return checked_files(self._sized(entry) for entry in named)

    def _sized(self, entry: FileEntry) -> FileEntry:
        size_bytes, etag = self._head(self._url(entry.path))
        return replace(entry, size_bytes=size_bytes, etag=etag)

    def _head(self, url: str) -> tuple[int, str | None]:
        headers = self._http.head(url, {})
        length = headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 18:
            raise InvalidRequestError(f"source {shown(url)}: the server does not tell the size")
        return int(length), headers.get("ETag") or headers.get("Last-Modified")
