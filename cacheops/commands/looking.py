"""`warmtide cache ls | du | verify | plan DIR`: look at a folder, change nothing."""

import argparse
from contextlib import closing

from cacheops.bandwidth import Bandwidth
from cacheops.commands.fetching import source_settings
from cacheops.commands.folder import Bounds, Shelved, folder_plan, shelved
from cacheops.commands.output import GIB, MIB, progress, rows, say, size
from cacheops.commands.steps import actions
from cacheops.download import Transfer
from cacheops.inventory import disk_bytes
from cacheops.layout import look_at
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest, Trust
from cacheops.sources import open_source
from cacheops.stock import WantedTree
from cacheops.uri import model_ref
from cacheops.verify import full, quick
from metrics.clock import Clock, WallClock


def list_models(options: argparse.Namespace) -> int:
    """What is here, what is on its way, what failed and when it is tried again."""
    seen = shelved(look_at(options.root), options.mount_table)
    now_s = WallClock().now_s()
    lines = [
        (
            tree.path.name,
            size(tree.manifest.bytes),
            str(len(tree.manifest.files)),
            tree.manifest.resolved_revision[:12],
            _state(seen, tree),
            tree.manifest.ref.uri,
        )
        for tree in seen.held.trees
    ]
    lines += [
        ("-", size(part.disk_bytes), "-", "-", "Staged", f"(digest {part.digest[:16]})") for part in seen.held.staged
    ]
    if lines:
        rows(("KEY", "SIZE", "FILES", "REVISION", "STATE", "SOURCE"), lines)
    else:
        say(f"{options.root}: no model yet; `warmtide cache prefetch {options.root} hf://ORG/NAME` brings one")
    for failure in seen.held.failures:
        wait_s = max(0.0, failure.retry_at_s - now_s)
        say(f"{failure.uri}: {failure.reason}: {failure.message}; a node agent tries again in {wait_s:.0f} s")
    for path in seen.held.strangers:
        say(f"{path.name}: no manifest of ours, left alone")
    return 0


def _state(seen: Shelved, tree: Published) -> str:
    key = tree.path.name
    words = ["Published"]
    trusts = {entry.trust for entry in tree.manifest.files}
    words += [trust.value for trust in (Trust.CHECKSUM, Trust.FIRST_USE) if trust in trusts]
    if key in seen.pins:
        words.append("pinned")
    if count := seen.mounts.get(key, 0):
        words.append(f"mounted {count} times" if count > 1 else "mounted")
    return ", ".join(words)


def verify(options: argparse.Namespace) -> int:
    """Compare every published byte with its digest. Exit code 1 when something is damaged."""
    held = shelved(look_at(options.root)).held
    if not held.trees and not held.strangers:
        say(f"{options.root}: no model is published here, nothing to verify")
    if options.dry_run:
        for tree in held.trees:
            read_bytes = 0 if options.quick else tree.manifest.bytes
            files = len(tree.manifest.files)
            say(f"{tree.path.name} {tree.manifest.ref.uri}: {files} files to look at, {size(read_bytes)} to read")
        return 0
    damaged = len(held.strangers)
    for tree in held.trees:
        faults = quick(tree.path)[1] if options.quick else _read_all(tree, options.mib_per_s * MIB)
        damaged += bool(faults)
        say(f"{tree.path.name} {tree.manifest.ref.uri}: {'; '.join(faults) or 'sound'}")
    for path in held.strangers:
        say(f"{path.name}: no manifest of ours, or a damaged one")
    if damaged:
        say("`warmtide cache prefetch` of the same URI brings a sound tree")
    return int(damaged > 0)


class _Metered(Bandwidth):
    """A cap that counts what passed, for the bar."""

    def __init__(self, bytes_per_s: float, clock: Clock) -> None:
        super().__init__(bytes_per_s, clock)
        self.passed_bytes = 0

    def wait_s(self, count_bytes: int) -> float:
        self.passed_bytes += count_bytes
        return super().wait_s(count_bytes)


def _read_all(tree: Published, bytes_per_s: float) -> list[str]:
    meter = _Metered(bytes_per_s, WallClock())
    transfer = Transfer(bandwidth=meter)
    with progress(tree.path.name, tree.manifest.bytes, lambda: meter.passed_bytes, transfer.stop):
        return full(tree.path, transfer)


def du(options: argparse.Namespace) -> int:
    """Bytes on disk, by model; hard links count once."""
    layout = look_at(options.root)
    seen = shelved(layout)
    held = seen.held
    trees = sorted(held.trees, key=lambda tree: -tree.manifest.bytes)
    lines = [(size(disk_bytes(tree.path)), tree.manifest.ref.uri) for tree in trees]
    lines.append((size(seen.staged_bytes), "(on its way)"))
    lines.append((size(disk_bytes(layout.root)), "(all)"))
    rows(("DISK", "WHAT"), lines)
    return 0


def plan_folder(options: argparse.Namespace) -> int:
    """What a node agent would do with this folder: for the models that are named, and for what is here."""
    clock = WallClock()
    layout = look_at(options.root)
    manifests = [_resolved(uri, options, clock) for uri in options.words]
    bounds = Bounds(
        quota_bytes=None if options.quota_gib is None else int(options.quota_gib * GIB),
        high_ratio=options.high,
        low_ratio=options.low,
    )
    seen = shelved(layout, options.mount_table)
    todo = folder_plan(layout, seen, [_wanted(found) for found in manifests], bounds, now_s=clock.now_s())
    uris = {found.storage_key: found.ref.uri for found in manifests}
    actions(todo.actions, lambda key: uris.get(key) or seen.name(key))
    say(f"the cache holds {size(todo.room.held_bytes)} and may hold {size(todo.room.high_bytes)}")
    if todo.revisit_at_s is not None:
        say(f"age alone changes this in {todo.revisit_at_s - clock.now_s():.0f} s")
    return 0


def _resolved(uri: str, options: argparse.Namespace, clock: Clock) -> ModelManifest:
    with closing(open_source(uri, source_settings(options), clock)) as source:
        return source.resolve(model_ref(uri))


def _wanted(manifest: ModelManifest) -> WantedTree:
    """A model asked for by hand: needed for sure, and now."""
    return WantedTree(key=manifest.storage_key, digest=manifest.digest, size_bytes=manifest.bytes)
