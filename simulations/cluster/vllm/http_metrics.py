"""The `http_*` families that FastAPI's instrumentation adds to a vLLM page."""

from collections import defaultdict
from dataclasses import dataclass, field

from .stats import Buckets

FINE_BOUNDS_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5),
    *(3.0, 3.5, 4.0, 4.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
COARSE_BOUNDS_S = (0.1, 0.5, 1.0)
# Paths the real server leaves out of its statistics.
UNCOUNTED_PATHS = frozenset({"/metrics", "/health", "/load", "/ping", "/version", "/server_info"})
NO_ROUTE = "none"  # what the instrumentation calls a path without a handler


@dataclass(slots=True)
class _Bytes:
    requests: int = 0
    bytes: int = 0


def _coarse() -> Buckets:
    return Buckets(COARSE_BOUNDS_S)


def _bytes_by_handler() -> dict[str, _Bytes]:
    return defaultdict(_Bytes)


def _coarse_by_handler() -> dict[tuple[str, str], Buckets]:
    return defaultdict(_coarse)


@dataclass(slots=True)
class HttpMetrics:
    """Counts of answered HTTP requests."""

    created: str  # of every series, as the page writes a time
    _requests: dict[tuple[str, str, str], int] = field(default_factory=lambda: defaultdict(int))
    _received: dict[str, _Bytes] = field(default_factory=_bytes_by_handler)
    _sent: dict[str, _Bytes] = field(default_factory=_bytes_by_handler)
    _fine: Buckets = field(default_factory=lambda: Buckets(FINE_BOUNDS_S))
    _coarse: dict[tuple[str, str], Buckets] = field(default_factory=_coarse_by_handler)

    def answered(self, handler: str, method: str, status: int, *, duration_s: float) -> None:
        """Count one answer."""
        self._requests[handler, method, f"{status // 100}xx"] += 1
        self._fine.observe(duration_s)
        self._coarse[handler, method].observe(duration_s)

    def transferred(self, handler: str, *, received_bytes: int, sent_bytes: int) -> None:
        """Count the lengths that the headers declared."""
        for sizes, size in ((self._received, received_bytes), (self._sent, sent_bytes)):
            sizes[handler].requests += 1
            sizes[handler].bytes += size

    def render(self) -> str:
        """The families' text."""
        requests = {
            f'{{handler="{handler}",method="{method}",status="{status}"}}': count
            for (handler, method, status), count in self._requests.items()
        }
        lines = _head("http_requests_total", "counter", "Requests by method, status and handler.")
        lines += [f"http_requests_total{labels} {float(count)}" for labels, count in requests.items()]
        lines += self._created("http_requests", list(requests))
        lines += self._sizes("http_request_size_bytes", self._received)
        lines += self._sizes("http_response_size_bytes", self._sent)
        name = "http_request_duration_highr_seconds"
        lines += _head(name, "histogram", "Latency in fine buckets, over all handlers.")
        lines += _histogram(name, "", self._fine)
        lines += self._created(name, [""])
        name = "http_request_duration_seconds"
        lines += _head(name, "histogram", "Latency in coarse buckets, by handler.")
        for (handler, method), buckets in self._coarse.items():
            lines += _histogram(name, f'handler="{handler}",method="{method}"', buckets)
        by_handler = [f'{{handler="{handler}",method="{method}"}}' for handler, method in self._coarse]
        lines += self._created(name, by_handler)
        return "\n".join(lines) + "\n"

    def _sizes(self, name: str, sizes: dict[str, _Bytes]) -> list[str]:
        lines = _head(name, "summary", "Declared body length by handler.")
        lines += [f'{name}_count{{handler="{handler}"}} {float(size.requests)}' for handler, size in sizes.items()]
        lines += [f'{name}_sum{{handler="{handler}"}} {float(size.bytes)}' for handler, size in sizes.items()]
        return lines + self._created(name, [f'{{handler="{handler}"}}' for handler in sizes])

    def _created(self, name: str, labels: list[str]) -> list[str]:
        """As the real page: nothing where there is no series yet."""
        if not labels:
            return []
        lines = _head(f"{name}_created", "gauge", "When the series began.")
        return lines + [f"{name}_created{text} {self.created}" for text in labels]


def _head(name: str, kind: str, help_text: str) -> list[str]:
    return [f"# HELP {name} {help_text}", f"# TYPE {name} {kind}"]


def _histogram(name: str, labels: str, buckets: Buckets) -> list[str]:
    counts = list(buckets.cumulative())
    bounds = (*map(str, buckets.bounds), "+Inf")
    before, _, after = labels.partition(",")
    lines = []
    for bound, count in zip(bounds, counts, strict=True):
        text = ",".join(part for part in (before, f'le="{bound}"', after) if part)
        lines.append(f"{name}_bucket{{{text}}} {count}")
    all_labels = f"{{{labels}}}" if labels else ""
    return [*lines, f"{name}_count{all_labels} {counts[-1]}", f"{name}_sum{all_labels} {buckets.sum}"]
