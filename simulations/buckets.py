"""Real S3 servers on loopback, each over a folder: versitygw, and rclone where Go is not at hand.

rclone knows no versions and no checksum but CRC32, and ignores If-Match.
"""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCESS_KEY, SECRET_KEY = "ACCESSKEY1", "SECRETKEY1"  # rclone refuses shorter ones
REGION = "us-east-1"
START_S = 20.0
LOOK_S = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketServer:
    """A server that answers; its buckets are the folders of `data`."""

    endpoint: str
    data: Path
    has_versions: bool

    @property
    def environment(self) -> dict[str, str]:
        """What a client needs to know, as every AWS client reads it."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_REGION": REGION,
        }


@contextmanager
def bucket_server(program: Path, folder: Path) -> Iterator[BucketServer]:
    """Serve `folder/data` with a versitygw or rclone program that ends with the block."""
    port = _free_port()
    data, versions = folder.absolute() / "data", folder.absolute() / "versions"
    for place in (data, versions):
        place.mkdir(parents=True)
    is_rclone = program.name == "rclone"
    command = _rclone(program, port, data) if is_rclone else _versitygw(program, port, data, versions)
    keys = os.environ | {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    server = subprocess.Popen(command, env=keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        yield BucketServer(endpoint=f"http://127.0.0.1:{port}", data=data, has_versions=not is_rclone)
    finally:
        server.terminate()
        server.wait()


def _versitygw(program: Path, port: int, data: Path, versions: Path) -> list[str]:
    return [str(program), "--port", f"127.0.0.1:{port}", "posix", "--versioning-dir", str(versions), str(data)]


def _rclone(program: Path, port: int, data: Path) -> list[str]:
    keys = f"{ACCESS_KEY},{SECRET_KEY}"
    # Without a list of files in memory: what is written to the folder from outside shows at once.
    listing = ["--dir-cache-time", "0s", "--config", "/dev/null"]
    return [str(program), "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys, *listing, str(data)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(int(START_S / LOOK_S)):
        if server.poll() is not None:
            break
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(LOOK_S)
    raise RuntimeError(f"the S3 server on port {port} does not answer (exit code {server.poll()})")
