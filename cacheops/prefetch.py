"""The main path of a prefetch: resolve → is it here? → room? → download → publish; a failure is remembered."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from cacheops.download import RangeSource, Transfer, download
from cacheops.errors import (
    CacheError,
    CanceledError,
    FailureReason,
    InsufficientCapacityError,
    IntegrityMismatchError,
    from_os,
    retry_after_s,
)
from cacheops.layout import Layout
from cacheops.manifest_file import Published
from cacheops.model import ModelManifest
from cacheops.publish import publish
from cacheops.verify import quick

SPARE_BYTES = 64 << 20  # journal, manifest and the file system's own needs


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a model is not here, and when it is tried again."""

    uri: str
    reason: FailureReason
    message: str
    attempts: int
    failed_at_s: float
    retry_at_s: float


def bring(
    layout: Layout, manifest: ModelManifest, source: RangeSource, transfer: Transfer, *, now_s: float
) -> Published:
    """Have a model published; nothing is fetched that is already here. Safe to repeat, safe to kill."""
    if held := published_as(layout, manifest):
        forget_failure(layout, manifest.storage_key)
        return held
    try:
        done = stage_and_publish(layout, manifest, source, transfer, now_s=now_s)
    except CacheError as exc:
        remember_failure(layout, manifest.ref.uri, manifest.storage_key, exc, now_s=now_s)
        raise
    forget_failure(layout, manifest.storage_key)
    return done


def stage_and_publish(
    layout: Layout,
    manifest: ModelManifest,
    source: RangeSource,
    transfer: Transfer,
    *,
    now_s: float,
    source_digest: str | None = None,
) -> Published:
    """Download and publish; a failure is the caller's to remember.

    `source_digest` is that of the source's own list where `manifest` is already sealed: both name the same bytes and
    share their staging.
    """
    digest = source_digest or manifest.digest
    staging = layout.staging(digest)
    with alone(staging):
        check_room(staging, manifest)
        sha256_by_path = download(manifest, source, staging, transfer)
        return publish(layout, staging, manifest.sealed(sha256_by_path), source_digest=digest, now_s=now_s)


def published_as(layout: Layout, manifest: ModelManifest) -> Published | None:
    """The published tree, if it holds just this manifest; a visibly damaged one does not count and is replaced."""
    try:
        held, faults = quick(layout.tree(manifest.storage_key))
    except IntegrityMismatchError:
        return None
    if faults:
        return None
    return held if held.source_digest == manifest.digest or held.manifest.is_same_as(manifest) else None


def read_failure(layout: Layout, key: str) -> Failure | None:
    """The last failure of a model that is not here yet."""
    try:
        body = json.loads(layout.failure(key).read_text(encoding="utf-8"))
        return Failure(**{**body, "reason": FailureReason(body["reason"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember_failure(layout: Layout, uri: str, key: str, error: CacheError, *, now_s: float) -> Failure:
    """Write down why, and when the next try is due."""
    failure = next_failure(read_failure(layout, key), uri, error, now_s=now_s)
    write_failure(layout, key, failure)
    return failure


def write_failure(layout: Layout, key: str, failure: Failure) -> bool:
    """Whether it could be: a disk that is full or closed cannot be told so."""
    body = {name: getattr(failure, name) for name in Failure.__dataclass_fields__}
    fresh = layout.failure(key).with_suffix(".new")
    try:
        fresh.write_text(json.dumps(body) + "\n", encoding="utf-8")
        fresh.rename(layout.failure(key))
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        return False
    return True


def next_failure(before: Failure | None, uri: str, error: CacheError, *, now_s: float) -> Failure:
    """What failed now after what failed before."""
    attempts = 1 + (before.attempts if before else 0)
    return Failure(
        uri=uri,
        reason=error.reason,
        message=str(error)[:1000],
        attempts=attempts,
        failed_at_s=now_s,
        retry_at_s=now_s + retry_after_s(error.reason, attempts, wait_s=error.wait_s),
    )


def forget_failure(layout: Layout, key: str) -> None:
    """The model is here."""
    layout.failure(key).unlink(missing_ok=True)


def is_being_fetched(layout: Layout, digest: str) -> bool:
    """Whether a living process holds the lock of a staged manifest."""
    try:
        fd = os.open(layout.staging(digest) / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    except OSError as exc:
        raise from_os(exc, f"staging {digest}: lock") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


@contextmanager
def alone(staging: Path) -> Iterator[None]:
    """One process per staged manifest; the kernel gives the lock back however we die."""
    try:
        staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(staging / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise from_os(exc, f"staging {staging.name}") from exc
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(fd)
        raise CanceledError(f"staging {staging.name}: another process is fetching this model") from exc
    try:
        yield
    finally:
        os.close(fd)


def check_room(staging: Path, manifest: ModelManifest) -> None:
    """Refuse before the first byte what cannot fit."""
    parts = staging / "parts"
    try:
        staged = sum(path.stat().st_blocks * 512 for path in parts.iterdir()) if parts.is_dir() else 0
        disk = os.statvfs(next(place for place in (staging, *staging.parents) if place.exists()))
    except OSError as exc:
        raise from_os(exc, f"staging {staging.name}: cannot be looked at") from exc
    free = disk.f_bavail * disk.f_frsize
    need = manifest.bytes - staged + SPARE_BYTES
    if need > free:
        raise InsufficientCapacityError(f"{manifest.ref.uri}: needs {need} bytes more, {free} are free")
