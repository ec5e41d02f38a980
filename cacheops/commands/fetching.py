"""`warmtide cache prefetch DIR URI`: bring a model into a folder, or say what that would take."""

import argparse
import gc
import ipaddress
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from cacheops.addresses import AddressRules
from cacheops.bandwidth import Bandwidth
from cacheops.commands.output import MIB, progress, say, size
from cacheops.download import Transfer
from cacheops.errors import CacheError, InvalidRequestError
from cacheops.layout import Layout, open_cache
from cacheops.manifest_file import Published
from cacheops.model import ALLOW_DEFAULT, ModelManifest, ModelRef
from cacheops.prefetch import bring, remember_failure
from cacheops.sources import Source, SourceSettings, open_source, settings_from_environment
from cacheops.uri import model_ref
from metrics.clock import Clock, WallClock


def prefetch(options: argparse.Namespace) -> int:
    """Bring a model into the folder: resumed, verified, published in one step."""
    if options.dry_run:
        from cacheops.commands.explaining import explain  # and with it all of the planning

        return explain(options)
    clock, ref = WallClock(), wanted_ref(options)
    layout = open_cache(options.root)
    transfer = Transfer(workers=options.workers, bandwidth=Bandwidth(options.mib_per_s * MIB, clock))
    with ExitStack() as stack:
        with _unexamined():
            source = stack.enter_context(closing(open_source(ref.uri, source_settings(options), clock)))
            manifest = _resolved(layout, source, ref, clock)
        with progress("fetching", manifest.bytes, lambda: transfer.staged_bytes, transfer.stop):
            published = bring(layout, manifest, source, transfer, now_s=clock.now_s())
    _report(published, transfer, as_json=options.output == "json")
    return 0


@contextmanager
def _unexamined() -> Iterator[None]:
    """The descriptions that clients load live to the end: a quarter of their cost is looking for garbage in them."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _report(published: Published, transfer: Transfer, *, as_json: bool) -> None:
    fetched_bytes = transfer.fetched_bytes
    kept_bytes = max(0, published.manifest.bytes - fetched_bytes)
    if as_json:
        body = {
            "path": str(published.path),
            "uri": published.manifest.ref.uri,
            "revision": published.manifest.resolved_revision,
            "digest": published.manifest.digest,
            "bytes": published.manifest.bytes,
            "fetchedBytes": fetched_bytes,
        }
        say(json.dumps(body))
        return
    if transfer.files:
        text = f"fetched {size(fetched_bytes)}" + (f", {size(kept_bytes)} were here" if kept_bytes else "")
        say(f"{published.path}: {published.manifest.ref.uri}, {text}, verified")
    else:  # names and sizes were looked at, not the bytes
        say(f"{published.path}: {published.manifest.ref.uri}, here already; `warmtide cache verify` reads its bytes")


def wanted_ref(options: argparse.Namespace) -> ModelRef:
    """What the first word after the place names, with its patterns."""
    if not options.words:
        raise InvalidRequestError("prefetch: name the model too: hf://ORG/NAME, s3://BUCKET/PREFIX or another URI")
    if len(options.words) != 1:
        raise InvalidRequestError(f"prefetch: takes one URI, got {len(options.words)}")
    return model_ref(options.words[0], allow=tuple(options.allow or ALLOW_DEFAULT), ignore=tuple(options.ignore))


def source_settings(options: argparse.Namespace) -> SourceSettings:
    """Sources as the environment and `--allow-host` say."""
    try:
        networks = tuple(ipaddress.ip_network(item) for item in options.allow_host if "/" in item)
    except ValueError as exc:
        raise InvalidRequestError(f"--allow-host: {exc}") from exc
    hosts = frozenset(item for item in options.allow_host if "/" not in item)
    rules = AddressRules(hosts=hosts, networks=networks)
    return settings_from_environment(rules, local_files=True, claims=options.claims)


def _resolved(layout: Layout, source: Source, ref: ModelRef, clock: Clock) -> ModelManifest:
    """The model's files; a failure is remembered beside the cache, so that `ls` shows it."""
    try:
        return source.resolve(ref)
    except CacheError as exc:
        remember_failure(layout, ref.uri, ref.storage_key, exc, now_s=clock.now_s())
        raise
