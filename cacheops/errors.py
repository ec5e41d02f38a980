"""What can go wrong with a model's bytes, and who acts on it.

CacheError                     `reason` is stable: status, metrics and `warmtide cache ls` show it
├── InvalidRequestError        a human: no such model, revision or bucket; a hostile file list; a blocked address
├── AccessDeniedError          a human: the credentials are missing, refused, or see masked digests only
├── SourceUnavailableError     retry later: unreachable, too slow, 429 or 5xx past our patience
│   └── SourceSilentError      it is there, and says nothing in time: dead, or busy
├── IntegrityMismatchError     retry later: the bytes are not what the source swore, or changed underway
│   └── OtherContentError      they are not what another node trusted first
├── InsufficientCapacityError  retry later, after an eviction: no space or quota left
├── StorageError               a human: the disk refuses (EIO, EACCES, read-only)
└── CanceledError              nobody: the caller stopped it; what was fetched is kept

Every failure has a next retry time (`retry_after_s`): also what needs a human is tried again, seldom.
"""

import errno
from enum import StrEnum

RETRY_FIRST_S = 60.0  # as GPUStack's model delivery: 1 minute, doubled to 1 hour
RETRY_MAX_S = 3600.0
OUT_OF_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class FailureReason(StrEnum):
    """Why a model is not there. Stable names."""

    INVALID_REQUEST = "InvalidRequest"
    ACCESS_DENIED = "AccessDenied"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    INTEGRITY_MISMATCH = "IntegrityMismatch"
    INSUFFICIENT_CAPACITY = "InsufficientCapacity"
    STORAGE_FAILED = "StorageFailed"
    CANCELED = "Canceled"


NEEDS_A_HUMAN = frozenset({FailureReason.INVALID_REQUEST, FailureReason.ACCESS_DENIED, FailureReason.STORAGE_FAILED})


class CacheError(Exception):
    """Any trouble with a model's bytes; `wait_s` is the source's own wish (Retry-After)."""

    reason: FailureReason

    def __init__(self, what: str, *, wait_s: float = 0.0) -> None:
        super().__init__(what)
        self.wait_s = wait_s


class InvalidRequestError(CacheError):
    """What is asked for cannot be had as it is asked."""

    reason = FailureReason.INVALID_REQUEST


class AccessDeniedError(CacheError):
    """The source refuses us."""

    reason = FailureReason.ACCESS_DENIED


class SourceUnavailableError(CacheError):
    """The source does not deliver now."""

    reason = FailureReason.SOURCE_UNAVAILABLE


class SourceSilentError(SourceUnavailableError):
    """The source is connected and sends no byte in time."""


class IntegrityMismatchError(CacheError):
    """The bytes are not those of the manifest."""

    reason = FailureReason.INTEGRITY_MISMATCH


class OtherContentError(IntegrityMismatchError):
    """Nobody vouches for the bytes, and they are not those that another node found first."""


class InsufficientCapacityError(CacheError):
    """No room."""

    reason = FailureReason.INSUFFICIENT_CAPACITY


class StorageError(CacheError):
    """The disk refuses."""

    reason = FailureReason.STORAGE_FAILED


class CanceledError(CacheError):
    """Stopped by the caller."""

    reason = FailureReason.CANCELED


def from_os(exc: OSError, what: str) -> CacheError:
    """The class of an operating system's refusal while doing `what`."""
    text = f"{what}: {exc.strerror or exc}"
    return InsufficientCapacityError(text) if exc.errno in OUT_OF_SPACE else StorageError(text)


def retry_after_s(reason: FailureReason, attempts: int, *, wait_s: float = 0.0) -> float:
    """Seconds until the next try after `attempts` failures in a row."""
    if reason in NEEDS_A_HUMAN:
        return RETRY_MAX_S  # denied or wrong stays so until someone acts; trying often burns quotas and trust
    doubled: float = RETRY_FIRST_S * 2.0 ** min(max(attempts - 1, 0), 10)
    return min(max(doubled, wait_s), RETRY_MAX_S)
