"""What is scraped: one pod's metrics address, and how often."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrapeTarget:
    """One metrics page. `key` names it in results and messages, and fixes its place in the schedule."""

    key: str
    url: str
    bearer_token_file: Path | None = None
    ca_file: Path | None = None  # None: the system's
    insecure: bool = False  # take any certificate

    def __post_init__(self) -> None:
        if not _is_usable(self.url):
            raise ValueError(f"scrape target {self.key}: url must be http(s)://host[:port]/path, got {self.url!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTarget:
    """A target, its scrape period, and its place within a period."""

    target: ScrapeTarget
    period_s: float
    phase: float | None = None  # 0..1; None: drawn from the key

    def __post_init__(self) -> None:
        if not self.period_s > 0:
            raise ValueError(f"scrape target {self.target.key}: period must be > 0 s, got {self.period_s}")
        if self.phase is not None and not 0 <= self.phase < 1:
            raise ValueError(f"scrape target {self.target.key}: phase must be within 0 and 1, got {self.phase}")


def _is_usable(url: str) -> bool:
    """Whether a client can try it: what is wrong with an address must show here, not within a scrape."""
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:  # UnicodeError of a host that is no name is one
        return False
    return parts.scheme in ("http", "https") and bool(host) and port != 0 and url.isprintable() and " " not in url
