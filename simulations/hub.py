"""A model hub on loopback: folders served with Hugging Face's protocol, as huggingface_hub 1.x and 2.x speak it.

`python -m simulations.hub DIR` serves `DIR/org/name/…`. A folder's commit is the digest of its content; branch `main`
names it. Large files redirect to a signed address that expires, as on the real hub. Bytes go out with sendfile.
"""

import argparse
import asyncio
import hashlib
import hmac
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from metrics.clock import Clock, WallClock

LFS_FROM_BYTES = 1 << 20  # the hub stores weights and larger files apart; below, a plain git blob
BLOCK_BYTES = 1 << 20
SLICE_BYTES = 1 << 18  # of a limited answer: smooth at a few megabytes per second
SIGNED_FOR_S = 300.0
PAGE_ROWS = 1000  # of a listing, as on the real hub


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of a repository."""

    path: str
    file: Path
    size_bytes: int
    sha256: str
    git_sha1: str

    @property
    def is_lfs(self) -> bool:
        return self.size_bytes >= LFS_FROM_BYTES or self.path.endswith(".safetensors")

    def row(self, *, masked: bool) -> dict[str, object]:
        """The blob in a tree listing; a gated repository hides what would prove possession."""
        row: dict[str, object] = {"type": "file", "oid": self.git_sha1, "size": self.size_bytes, "path": self.path}
        if self.is_lfs:
            oid = "*" * 64 if masked else self.sha256
            row["lfs"] = {"oid": oid, "size": self.size_bytes, "pointerSize": 134}
        return row


@dataclass(frozen=True, slots=True)
class Repository:
    """A model: its files and the commit they make."""

    name: str
    blobs: dict[str, Blob]
    commit: str


@dataclass(slots=True, kw_only=True)
class HubSettings:
    """How the hub behaves."""

    token: str | None = None  # required for everything
    gated: frozenset[str] = frozenset()  # repositories whose digests are masked
    cdn: str | None = None  # who serves the signed addresses; None: this server by its other name
    bytes_per_s: float = 0.0  # of one answer; 0: as fast as it goes
    signed_for_s: float = SIGNED_FOR_S
    refusals: list[tuple[str, int, dict[str, str]]] = field(
        default_factory=list
    )  # used up: path start, status, headers
    extra_names: Sequence[str] = ()  # listed beside the files that are there: what a hostile repository would claim
    clock: Clock = field(default_factory=WallClock)
    requests: list[str] = field(default_factory=list)  # `METHOD path range`, for tests and the demo
    sent_bytes: int = 0  # of files, whole answers counted as they begin


class ModelHub:
    """Repositories by name, and the answers about them."""

    def __init__(self, root: Path, settings: HubSettings | None = None) -> None:
        self.settings = settings or HubSettings()
        self._root = root
        self._repositories: dict[str, Repository] = {}
        self._key = os.urandom(32)

    def app(self) -> web.Application:
        """The hub as a web application."""
        app = web.Application(middlewares=[self._gate])
        app.add_routes(
            [
                web.get("/api/models/{org}/{name}", self._revision),
                web.get("/api/models/{org}/{name}/revision/{rev}", self._revision),
                web.get("/api/models/{org}/{name}/tree/{rev}", self._tree),
                web.get("/{org}/{name}/resolve/{rev}/{path:.+}", self._resolve),
                web.get("/cdn/{org}/{name}/{path:.+}", self._signed),
            ]
        )
        return app

    def read(self, name: str) -> Repository:
        """A repository as its folder is now; digests are computed once per content of the folder."""
        folder = self._root / name
        if not folder.is_dir():
            raise _error(404, "RepoNotFound")
        known = self._repositories.get(name)
        files = {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}
        blobs = {path: _same(known, path, file) or _blob(path, file) for path, file in files.items()}
        text = "".join(f"{blob.git_sha1} {path}\n" for path, blob in blobs.items())
        commit = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._repositories[name] = Repository(name, blobs, commit)
        return self._repositories[name]

    def _asked(self, request: web.Request) -> Repository:
        repository = self.read(f"{request.match_info['org']}/{request.match_info['name']}")
        if request.match_info.get("rev", "main") not in {"main", repository.commit}:
            raise _error(404, "RevisionNotFound")
        return repository

    @web.middleware
    async def _gate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Record, and refuse who may not ask."""
        self.settings.requests.append(f"{request.method} {request.path} {request.headers.get('Range', '-')}")
        if refusal := next((one for one in self.settings.refusals if request.path.startswith(one[0])), None):
            self.settings.refusals.remove(refusal)
            return web.Response(status=refusal[1], headers=refusal[2])
        token = self.settings.token
        if token and not request.path.startswith("/cdn/"):
            given = request.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
                raise _error(401, "RepoNotFound")
        return await handler(request)

    async def _revision(self, request: web.Request) -> web.Response:
        repository = await asyncio.to_thread(self._asked, request)
        siblings = [{"rfilename": path} for path in repository.blobs]
        return web.json_response({"id": repository.name, "sha": repository.commit, "siblings": siblings})

    async def _tree(self, request: web.Request) -> web.Response:
        repository = await asyncio.to_thread(self._asked, request)
        masked = repository.name in self.settings.gated
        start = int(request.query.get("cursor", "0"))
        claimed = self.settings.extra_names[start : start + PAGE_ROWS]
        rows = [] if start else [blob.row(masked=masked) for blob in repository.blobs.values()]
        rows += [{"type": "file", "oid": "0" * 40, "size": 1, "path": name} for name in claimed]
        answer = web.json_response(rows)
        if start + PAGE_ROWS < len(self.settings.extra_names):
            following = request.url.update_query(cursor=str(start + PAGE_ROWS))
            answer.headers["Link"] = f'<{following}>; rel="next"'
        return answer

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        repository = await asyncio.to_thread(self._asked, request)
        blob = repository.blobs.get(request.match_info["path"])
        if blob is None:
            raise _error(404, "EntryNotFound", commit=repository.commit)
        headers = {"X-Repo-Commit": repository.commit}
        if not blob.is_lfs:
            return await self._bytes(request, blob, {**headers, "ETag": f'"{blob.git_sha1}"'})
        expires = f"{self.settings.clock.now_s() + self.settings.signed_for_s:.0f}"
        # Another host, as on the real hub: a redirect to the same one is taken for a renamed repository.
        cdn = self.settings.cdn or f"http://localhost:{request.url.port}"
        path = f"/cdn/{repository.name}/{blob.path}"
        headers |= {
            "Location": f"{cdn}{path}?Expires={expires}&Signature={self._signature(path, expires)}",
            "X-Linked-Size": str(blob.size_bytes),
            "X-Linked-ETag": f'"{blob.sha256}"',
        }
        return web.Response(status=302, headers=headers)

    async def _signed(self, request: web.Request) -> web.StreamResponse:
        expires = request.query.get("Expires", "0")
        right = hmac.compare_digest(request.query.get("Signature", ""), self._signature(request.path, expires))
        if not right or float(expires) < self.settings.clock.now_s():
            raise web.HTTPForbidden(text="the signature has expired")
        blob = (await asyncio.to_thread(self._asked, request)).blobs[request.match_info["path"]]
        return await self._bytes(request, blob, {"ETag": f'"{blob.sha256}"'})

    async def _bytes(self, request: web.Request, blob: Blob, headers: dict[str, str]) -> web.StreamResponse:
        asked = request.http_range
        start, stop, _ = slice(asked.start, asked.stop).indices(blob.size_bytes)
        self.settings.sent_bytes += stop - start if request.method != "HEAD" else 0
        if blob.is_lfs and not self.settings.bytes_per_s:  # which writes an ETag of its own
            return web.FileResponse(blob.file, chunk_size=BLOCK_BYTES, headers=headers)
        answer = web.StreamResponse(status=206 if "Range" in request.headers else 200, headers=headers)
        answer.content_length = stop - start
        if answer.status == 206:
            answer.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{blob.size_bytes}"
        await answer.prepare(request)
        if request.method != "HEAD":
            with suppress(ConnectionResetError):  # the client had enough
                await self._limited(answer, blob, start, stop)
        return answer

    async def _limited(self, answer: web.StreamResponse, blob: Blob, start: int, stop: int) -> None:
        with blob.file.open("rb") as file:
            file.seek(start)
            while start < stop:
                block = file.read(min(SLICE_BYTES, stop - start))
                await answer.write(block)
                start += len(block)
                if self.settings.bytes_per_s:
                    await self.settings.clock.sleep(len(block) / self.settings.bytes_per_s)

    def _signature(self, path: str, expires: str) -> str:
        return hmac.new(self._key, f"{path} {expires}".encode(), "sha256").hexdigest()


def _same(known: Repository | None, path: str, file: Path) -> Blob | None:
    """A blob whose digests are known and still true, as far as size and content address tell."""
    blob = known.blobs.get(path) if known else None
    return blob if blob and blob.size_bytes == file.stat().st_size else None


def _blob(path: str, file: Path) -> Blob:
    size_bytes = file.stat().st_size
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size_bytes, usedforsecurity=False)
    for block in _blocks(file):
        sha256.update(block)
        git.update(block)
    return Blob(path, file, size_bytes, sha256.hexdigest(), git.hexdigest())


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while block := opened.read(BLOCK_BYTES):
            yield block


def _error(status: int, code: str, *, commit: str | None = None) -> web.HTTPException:
    """A refusal as the hub words it."""
    kind = {401: web.HTTPUnauthorized, 404: web.HTTPNotFound}[status]
    headers = {"X-Error-Code": code, "X-Error-Message": code} | ({"X-Repo-Commit": commit} if commit else {})
    return kind(headers=headers)


async def serve(hub: ModelHub, port: int = 0) -> tuple[web.AppRunner, str]:
    """Start serving on loopback; the address is the hub's endpoint. The caller cleans the runner up."""
    runner = web.AppRunner(hub.app(), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    host, bound = runner.addresses[0][:2]
    return runner, f"http://{host}:{bound}"


@dataclass(frozen=True, slots=True)
class HubProcess:
    """A hub that runs as a process of its own."""

    endpoint: str
    root: Path


@contextmanager
def hub_process(root: Path, *, bytes_per_s: float = 0.0) -> Iterator[HubProcess]:
    """Serve a folder of models from a process that ends with the block."""
    command = [sys.executable, "-m", "simulations.hub", str(root), "--bytes-per-s", str(bytes_per_s)]
    server = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        with server.stdout:
            yield HubProcess(server.stdout.readline().strip(), root)
    finally:
        server.terminate()
        server.wait()


async def _run(root: Path, port: int, bytes_per_s: float) -> None:
    runner, endpoint = await serve(ModelHub(root, HubSettings(bytes_per_s=bytes_per_s)), port)
    sys.stdout.write(f"{endpoint}\n")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve folders of models with the hub's protocol, on loopback.")
    parser.add_argument("root", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--bytes-per-s", type=float, default=0.0)
    asked = parser.parse_args()
    asyncio.run(_run(asked.root, asked.port, asked.bytes_per_s))


if __name__ == "__main__":
    main()
