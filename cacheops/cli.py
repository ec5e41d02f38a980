"""`warmtide cache prefetch | ls | verify | du DIR`: a model cache in a folder, without a cluster.

Exit codes: 0 fine, 1 a model could not be brought or a tree is damaged, 2 it was called wrongly.
"""

import argparse
import ipaddress
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn
from rich.table import Table

from cacheops.addresses import AddressRules
from cacheops.bandwidth import Bandwidth
from cacheops.download import WORKERS_MAX, Transfer
from cacheops.errors import CacheError, InvalidRequestError
from cacheops.inventory import contents, disk_bytes
from cacheops.layout import Layout, open_cache
from cacheops.model import ALLOW_DEFAULT, ModelManifest, ModelRef
from cacheops.prefetch import bring, published_as, remember_failure
from cacheops.sources import Source, open_source, settings_from_environment
from cacheops.uri import model_ref
from cacheops.verify import full, quick
from metrics.clock import Clock, WallClock

REFRESH_S = 0.2
MIB, GIB = 1 << 20, 1 << 30

out = Console(highlight=False)


def main(arguments: Sequence[str]) -> int:
    """Run one command; what failed is one line, never a traceback."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
    except CacheError as exc:
        sys.stderr.write(f"warmtide cache: {exc.reason}: {exc}\n")
        return 2 if isinstance(exc, InvalidRequestError) else 1
    return code


def prefetch(options: argparse.Namespace) -> int:
    """Bring a model into the cache."""
    clock = WallClock()
    ref = model_ref(options.uri, allow=tuple(options.allow or ALLOW_DEFAULT), ignore=tuple(options.ignore))
    settings = settings_from_environment(_rules(options.allow_host), local_files=True)
    layout = open_cache(options.root)
    transfer = Transfer(workers=options.workers, bandwidth=Bandwidth(options.mib_per_s * MIB, clock))
    with closing(open_source(options.uri, settings, clock)) as source:
        manifest = _resolved(layout, source, ref, clock)
        if options.dry_run:
            _explain(layout, manifest)
            return 0
        with _shown(manifest, transfer):
            published = bring(layout, manifest, source, transfer, now_s=clock.now_s())
    kept = published.manifest.bytes - transfer.fetched_bytes
    text = f"fetched {size(transfer.fetched_bytes)}" + (f", {size(kept)} were here" if kept else "")
    out.print(f"{published.path}: {published.manifest.ref.uri}, {text}, verified", soft_wrap=True)
    return 0


def list_models(options: argparse.Namespace) -> int:
    """What is here, what is on its way, what failed and when it is tried again."""
    held = contents(open_cache(options.root))
    now_s = WallClock().now_s()
    table = Table(box=None, pad_edge=False)
    for name in ("KEY", "SIZE", "FILES", "REVISION", "STATE", "SOURCE"):
        table.add_column(name, no_wrap=name != "SOURCE", overflow="fold")
    for tree in held.trees:
        files, revision = tree.manifest.files, tree.manifest.resolved_revision[:12]
        state = "Published" + (" (first use)" if any(entry.first_use for entry in files) else "")
        row = (tree.path.name, size(tree.manifest.bytes), str(len(files)), revision, state, tree.manifest.ref.uri)
        table.add_row(*row)
    for staged in held.staged:
        table.add_row("-", size(staged.disk_bytes), "-", "-", "Staged", f"(digest {staged.digest[:16]})")
    out.print(table)
    for failure in held.failures:
        wait_s = max(0.0, failure.retry_at_s - now_s)
        out.print(f"{failure.uri}: {failure.reason}: {failure.message}; again in {wait_s:.0f} s", soft_wrap=True)
    for path in held.strangers:
        out.print(f"{path.name}: no manifest of ours, left alone", soft_wrap=True)
    return 0


def verify(options: argparse.Namespace) -> int:
    """Compare every published byte with its digest."""
    transfer = Transfer(bandwidth=Bandwidth(options.mib_per_s * MIB, WallClock()))
    held = contents(open_cache(options.root))
    damaged = len(held.strangers)
    for tree in held.trees:
        with _interruptible(transfer.stop):
            faults = quick(tree.path)[1] if options.quick else full(tree.path, transfer)
        damaged += bool(faults)
        out.print(f"{tree.path.name} {tree.manifest.ref.uri}: {'; '.join(faults) or 'sound'}", soft_wrap=True)
    for path in held.strangers:
        out.print(f"{path.name}: no manifest of ours, or a damaged one", soft_wrap=True)
    return int(damaged > 0)


def du(options: argparse.Namespace) -> int:
    """Bytes on disk, by model; hard links count once."""
    layout = open_cache(options.root)
    table = Table("DISK", "WHAT", box=None, pad_edge=False)
    held = contents(layout)
    for tree in sorted(held.trees, key=lambda tree: -tree.manifest.bytes):
        table.add_row(size(disk_bytes(tree.path)), tree.manifest.ref.uri)
    table.add_row(size(sum(staged.disk_bytes for staged in held.staged)), "(on its way)")
    table.add_row(size(disk_bytes(layout.root)), "(all)")
    out.print(table)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide cache", description="A node's model cache in a folder: fetched whole and verified, or not there."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in (("prefetch", prefetch), ("ls", list_models), ("verify", verify), ("du", du)):
        one = commands.add_parser(name, help=command.__doc__, description=command.__doc__)
        one.set_defaults(command=command)
        one.add_argument("root", type=Path, metavar="DIR", help="the cache's folder")
        if name == "prefetch":
            _add_prefetch_options(one)
        if name == "verify":
            one.add_argument("--quick", action="store_true", help="names and sizes only")
        if name in {"prefetch", "verify"}:
            one.add_argument("--mib-per-s", type=_rate, default=0.0, metavar="MIB", help="no faster than this")
    return parser


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 <= rate < float("inf"):
        raise ValueError(text)
    return rate


def _add_prefetch_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("uri", help="hf://org/name[@rev], s3://bucket/prefix, https://host/folder/ or file:///folder")
    parser.add_argument("--allow", action="append", metavar="PATTERN", help="files like this instead of the safe kinds")
    parser.add_argument("--ignore", action="append", default=[], metavar="PATTERN", help="no files like this")
    parser.add_argument("--allow-host", action="append", default=[], metavar="HOST", help="private host or network")
    parser.add_argument("--workers", type=int, choices=range(1, WORKERS_MAX + 1), default=8, metavar="N")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be fetched")


def size(count_bytes: int) -> str:
    """Bytes for people."""
    return f"{count_bytes / GIB:.2f} GiB" if count_bytes >= GIB / 100 else f"{count_bytes / 1024:.1f} KiB"


def _rules(allowed: list[str]) -> AddressRules:
    try:
        networks = tuple(ipaddress.ip_network(item) for item in allowed if "/" in item)
    except ValueError as exc:
        raise InvalidRequestError(f"--allow-host: {exc}") from exc
    return AddressRules(hosts=frozenset(item for item in allowed if "/" not in item), networks=networks)


def _resolved(layout: Layout, source: Source, ref: ModelRef, clock: Clock) -> ModelManifest:
    try:
        return source.resolve(ref)
    except CacheError as exc:
        remember_failure(layout, ref.uri, ref.storage_key, exc, now_s=clock.now_s())
        raise


def _explain(layout: Layout, manifest: ModelManifest) -> None:
    """What a prefetch would do."""
    unsworn = sum(not entry.sworn for entry in manifest.files)
    what = f"{len(manifest.files)} files, {size(manifest.bytes)}"
    out.print(f"{manifest.ref.uri} at {manifest.resolved_revision}: {what}", soft_wrap=True)
    out.print(f"digest {manifest.digest}; {unsworn} files without a digest from their source (trust on first use)")
    for entry in manifest.files[:50]:
        out.print(f"  {entry.size_bytes:>14} {entry.algorithm:<8} {entry.path}", soft_wrap=True)
    place = layout.tree(manifest.storage_key)
    out.print(f"{'already' if published_as(layout, manifest) else 'would be'} published at {place}", soft_wrap=True)


@contextmanager
def _shown(manifest: ModelManifest, transfer: Transfer) -> Iterator[None]:
    """A progress bar on stderr while the transfer runs; Ctrl-C ends it in good order."""
    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with _interruptible(transfer.stop), Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=manifest.bytes)
        over = threading.Event()

        def follow() -> None:
            while not over.wait(REFRESH_S):
                bar.update(task, completed=transfer.staged_bytes)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        try:
            yield
        finally:
            over.set()
            follower.join()


@contextmanager
def _interruptible(stop: threading.Event) -> Iterator[None]:
    before = signal.signal(signal.SIGINT, lambda *_: stop.set())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
