"""Times as Kubernetes objects carry them, and durations as people read them."""

from datetime import UTC, datetime

_LAST_S = 253_402_300_799  # the end of the year 9999, the last that the format can say


def rfc3339(at_s: float) -> str:
    """Unix seconds as in metadata.creationTimestamp."""
    return datetime.fromtimestamp(int(min(max(at_s, 0), _LAST_S)), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def unix_s(text: str) -> float | None:
    """Seconds of a time in an object; None when it is none."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (TypeError, ValueError):
        return None


def duration(seconds: float) -> str:
    """0.4s, 45s, 2m50s, 3h05m, 2d04h."""
    if seconds < 10:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"
