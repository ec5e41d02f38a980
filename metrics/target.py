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
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"scrape target {self.key}: url must be http(s)://host…, got {self.url!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedTarget:
    """A target and its scrape period."""

    target: ScrapeTarget
    period_s: float

    def __post_init__(self) -> None:
        if not self.period_s > 0:
            raise ValueError(f"scrape target {self.target.key}: period must be > 0 s, got {self.period_s}")
