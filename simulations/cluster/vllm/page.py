"""The text of `/metrics`: a template made once per server, filled at every scrape.

A page has about 600 samples; only their values change, so the lines are formatted beforehand.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest

from .cache_config import cache_config_labels
from .errors import BadOptionsError
from .families import FAMILIES, VERSIONS, Family
from .options import ServerOptions
from .stats import EngineStats

# What a step refreshes; awake or not is no measurement.
LOAD_GAUGES = ("num_requests_running", "num_requests_waiting", "num_requests_waiting_by_reason", "kv_cache_usage_perc")


@dataclass(frozen=True, slots=True, kw_only=True)
class PageFaults:
    """What can be wrong with a page."""

    hangs: bool = False  # never answers
    is_empty: bool = False  # 200 without a byte
    has_nan_gauges: bool = False
    has_stuck_gauges: bool = False  # the load gauges stay as they are; counters go on
    metrics_version: str = ""  # shows another version's names

    def __post_init__(self) -> None:
        if self.metrics_version and self.metrics_version not in VERSIONS:
            known = ", ".join(VERSIONS)
            raise BadOptionsError(f"PageFaults.metrics_version is {self.metrics_version!r}, known are {known}")


class Page:
    """One server's page."""

    def __init__(self, options: ServerOptions, stats: EngineStats, *, created_at_s: float) -> None:
        self._options = options
        self._stats = stats
        self._labels = {"engine": "0", "model_name": options.model_name}
        self._created = go_time(created_at_s)
        self._lines: list[str] = []
        self._readers: list[Callable[[], Iterable[object]]] = []
        self._stuck: dict[str, list[float]] | None = None
        self._faults = PageFaults()
        self._template = self._made_for(options.metrics_version)
        self._process = _process_registry()

    def set_faults(self, faults: PageFaults) -> None:
        """From now on the page is wrong in these ways."""
        self._faults = faults
        scalars = self._stats.scalars
        self._stuck = {name: list(scalars[name]) for name in LOAD_GAUGES} if faults.has_stuck_gauges else None
        self._template = self._made_for(faults.metrics_version or self._options.metrics_version)

    def render(self) -> str:
        """The page now, without the HTTP families."""
        values = tuple(value for read in self._readers for value in read())
        return generate_latest(self._process).decode() + self._template % values

    def _made_for(self, version: str) -> str:
        """The template of a version's page; the readers of its values come in the same order."""
        self._lines, self._readers = [], []
        for family in FAMILIES:
            if family.is_shown_by(version):
                self._add(family)
        self._add_cache_config(self._options)
        return "".join(self._lines)

    def _add(self, family: Family) -> None:
        if family.kind == "histogram":
            self._add_histogram(family)
        else:
            self._add_scalars(family)

    def _add_scalars(self, family: Family) -> None:
        is_counter = family.kind == "counter"
        name = f"vllm:{family.name}" + ("_total" if is_counter else "")
        labels = [self._label_text(family, value) for value in family.values]
        self._head(name, family.kind, family.help)
        self._lines += [f"{name}{_escaped(text)} %s\n" for text in labels]
        self._readers.append(lambda: self._scalars(family.key))
        if is_counter:
            self._add_created(f"vllm:{family.name}_created", family.help, labels)

    def _add_histogram(self, family: Family) -> None:
        name, buckets = f"vllm:{family.name}", self._stats.histograms[family.key]
        labels = self._label_text(family, "")
        self._head(name, "histogram", family.help)
        for bound in (*map(str, buckets.bounds), "+Inf"):
            text = _label_text({"engine": "0", "le": bound, "model_name": self._labels["model_name"]})
            self._lines.append(f"{name}_bucket{_escaped(text)} %s\n")
        self._lines += [f"{name}_count{_escaped(labels)} %s\n", f"{name}_sum{_escaped(labels)} %s\n"]

        def read() -> Iterable[object]:
            counts = list(buckets.cumulative())
            return (*counts, counts[-1], buckets.sum)

        self._readers.append(read)
        self._add_created(f"{name}_created", family.help, [labels])

    def _add_created(self, name: str, help_text: str, labels: list[str]) -> None:
        self._head(name, "gauge", help_text)
        self._lines += [f"{name}{_escaped(text)} {self._created}\n" for text in labels]

    def _add_cache_config(self, options: ServerOptions) -> None:
        name = "vllm:cache_config_info"
        self._head(name, "gauge", "Settings of the KV cache.")
        labels = {**cache_config_labels(options.engine), "engine": "0"}
        self._lines.append(f"{name}{_escaped(_label_text(dict(sorted(labels.items()))))} 1.0\n")

    def _head(self, name: str, kind: str, help_text: str) -> None:
        self._lines.append(f"# HELP {name} {_escaped(help_text)}\n# TYPE {name} {kind}\n")

    def _label_text(self, family: Family, value: str) -> str:
        labels = dict(self._labels) if family.has_engine else {"model_name": self._labels["model_name"]}
        if family.label:
            labels[family.label] = value
        return _label_text(dict(sorted(labels.items())))

    def _scalars(self, key: str) -> Iterable[object]:
        values = self._stats.scalars[key]
        if key not in LOAD_GAUGES:
            return values
        if self._faults.has_nan_gauges:
            return ["NaN"] * len(values)
        return self._stuck[key] if self._stuck is not None else values


def _process_registry() -> CollectorRegistry:
    """The python_* and process_* families of the API process, as every vLLM page begins."""
    registry = CollectorRegistry()
    GCCollector(registry=registry)
    PlatformCollector(registry=registry)
    ProcessCollector(registry=registry)
    return registry


def _label_text(labels: dict[str, str]) -> str:
    quoted = (f'{name}="{_quoted(value)}"' for name, value in labels.items())
    return "{" + ",".join(quoted) + "}"


def _quoted(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def go_time(at_s: float) -> str:
    """A Unix time as prometheus_client writes it."""
    return f"{at_s:.16e}"


def _escaped(text: str) -> str:
    """Text that stands in a %-template."""
    return text.replace("%", "%%")
