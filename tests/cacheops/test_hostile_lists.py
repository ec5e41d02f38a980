"""Whatever a hub, a bucket or a checksum file lists: one function refuses it, and nothing is written or asked for."""

import asyncio
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from cacheops import guard
from cacheops.download import Transfer, download
from cacheops.errors import InvalidRequestError, StorageError
from cacheops.layout import Layout
from cacheops.sources import SourceSettings, open_source
from cacheops.uri import model_ref
from metrics.clock import WallClock
from simulations.hostile import HOSTILE
from simulations.hub import HubSettings, ModelHub, serve
from simulations.origin import Origin

PAGE_KEYS = 1000


def refused(uri: str, settings: SourceSettings) -> str:
    """The words with which a list was refused."""
    with closing(open_source(uri, settings, WallClock())) as source, pytest.raises(InvalidRequestError) as caught:
        source.resolve(model_ref(uri))
    return str(caught.value)


@pytest.fixture(autouse=True)
def untouched(tmp_path: Path, layout: Layout) -> Iterator[None]:
    """No list may leave a file anywhere: not in the cache, not beside it."""

    def files() -> set[Path]:
        return {path for path in tmp_path.rglob("*") if path.is_file() and "hub-files" not in path.parts}

    before = files()
    yield
    assert files() == before


@pytest.mark.parametrize("names", HOSTILE.values(), ids=HOSTILE.keys())
async def test_a_hubs_list_is_refused(names: Sequence[str], tmp_path: Path, settings: SourceSettings) -> None:
    folder = tmp_path / "hub-files" / "org" / "name"
    folder.mkdir(parents=True)
    behaviour = HubSettings(extra_names=names)
    runner, endpoint = await serve(ModelHub(tmp_path / "hub-files", behaviour))
    try:
        words = await asyncio.to_thread(refused, "hf://org/name", replace(settings, hub_endpoint=endpoint))
    finally:
        await runner.cleanup()

    assert words.startswith("file list: ")
    assert not [line for line in behaviour.requests if "/resolve/" in line]
    assert len(behaviour.requests) <= 2 + guard.FILES_MAX // PAGE_KEYS


@dataclass
class Listing:
    """A bucket that lists whatever it is told, page by page, and counts what else it is asked for."""

    names: Sequence[str]
    others: list[str] = field(default_factory=list)
    pages: int = 0


class ListingHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    listing: Listing

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if asked.get("list-type") != ["2"]:
            return self.other()
        self.listing.pages += 1
        start = int(asked.get("continuation-token", ["0"])[0])
        stop = start + PAGE_KEYS
        more = stop < len(self.listing.names)
        rows = "".join(
            f"<Contents><Key>{quote(f'llm/{name}')}</Key><Size>1</Size><ETag>&quot;e&quot;</ETag></Contents>"
            for name in self.listing.names[start:stop]
        )
        token = f"<NextContinuationToken>{stop}</NextContinuationToken>" if more else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult><EncodingType>url</EncodingType>'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.other()

    def other(self) -> None:
        self.listing.others.append(self.path)
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def listing(names: Sequence[str]) -> Iterator[tuple[Listing, str]]:
    made = Listing(names)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (ListingHandler,), {"listing": made}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("names", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_buckets_list_is_refused(
    names: Sequence[str], settings: SourceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "ACCESSKEY1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRETKEY1")
    with listing(names) as (seen, endpoint):
        words = refused("s3://models/llm", replace(settings, s3_endpoint=endpoint, s3_region="us-east-1"))

    assert words.startswith("file list: ")
    assert seen.others == []
    assert seen.pages <= 1 + guard.FILES_MAX // PAGE_KEYS


SUMMED = {name: names for name, names in HOSTILE.items() if name != "dot"}  # sha256sum itself writes `./x`
SUMMED["twice"] = ["a.json", "a.json"]


@pytest.mark.parametrize("names", SUMMED.values(), ids=SUMMED.keys())
def test_a_checksum_files_list_is_refused(names: Sequence[str], origin: Origin, settings: SourceSettings) -> None:
    lines = (f"{'0' * 64}  {name}\n" for name in names)
    origin.add("/m/SHA256SUMS", "".join(lines).encode())

    words = refused(f"{origin.url}/m/", settings)

    # A line's own characters may end it before it is a name; a list too long to read is refused as such.
    assert words.startswith(("file list: ", "SHA256SUMS, line ")) or "a list of more than" in words
    assert [path for _method, path, _headers in origin.seen] == ["/m/SHA256SUMS"]


@pytest.mark.parametrize("names", SUMMED.values(), ids=SUMMED.keys())
def test_the_list_of_a_checksum_file_in_a_claim_is_refused(
    names: Sequence[str], tmp_path: Path, settings: SourceSettings
) -> None:
    folder = tmp_path / "hub-files" / "share"
    folder.mkdir(parents=True)
    (folder / "SHA256SUMS").write_text("".join(f"{'0' * 64}  {name}\n" for name in names), encoding="utf-8")

    words = refused("pvc://share", replace(settings, claims=tmp_path / "hub-files"))

    assert words.startswith(("file list: ", "SHA256SUMS, line ")) or "a list of more than" in words


def test_a_part_file_that_became_a_symlink_is_not_written_through(
    tmp_path: Path, origin: Origin, layout: Layout, settings: SourceSettings
) -> None:
    outside = tmp_path / "hub-files"
    outside.write_bytes(b"theirs")
    outside.chmod(0o444)
    origin.add("/a.json", b"ours!!")
    uri = f"{origin.url}/a.json"
    with closing(open_source(uri, settings, WallClock())) as source:
        manifest = source.resolve(model_ref(uri))
        parts = layout.staging(manifest.digest) / "parts"
        parts.mkdir(parents=True)
        (parts / "000000").symlink_to(outside)

        with pytest.raises(StorageError):
            download(manifest, source, layout.staging(manifest.digest), Transfer())

    assert (outside.read_bytes(), outside.stat().st_mode & 0o777) == (b"theirs", 0o444)
    shutil.rmtree(layout.staging(manifest.digest))
