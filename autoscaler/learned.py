"""What the policy learned, as one compact text in `ScaledService.status.learned`, and back."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

# A service's memory is some 10 kB of JSON; far more is not ours, and a status must stay small for etcd.
PACKED_MAX_CHARS = 64 * 1024
UNPACKED_MAX_BYTES = 1024 * 1024


def pack(learned: Mapping[str, Any]) -> str | None:
    """The text, or None when there is too much to keep: what is lost is learned again."""
    plain = json.dumps(learned, separators=(",", ":"), allow_nan=False).encode()
    text = base64.b64encode(zlib.compress(plain)).decode()
    return text if len(text) <= PACKED_MAX_CHARS and len(plain) <= UNPACKED_MAX_BYTES else None


def unpack(text: str) -> dict[str, Any]:
    """What was packed; ValueError when this is something else (anyone who may write the status may have written it)."""
    try:
        unzip = zlib.decompressobj()
        plain = unzip.decompress(base64.b64decode(text, validate=True), UNPACKED_MAX_BYTES)
        # Cut, or larger than the limit: then nothing of it counts, and nothing is no JSON.
        learned = json.loads(plain if unzip.eof else b"")
    except (binascii.Error, zlib.error, RecursionError, ValueError) as exc:
        raise ValueError(f"status.learned cannot be read: {exc}") from exc
    if not isinstance(learned, dict):
        raise ValueError(f"status.learned holds a {type(learned).__name__}, not an object")  # noqa: TRY004 - untrusted text, no type error
    return learned
