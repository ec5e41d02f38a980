"""What the controller says of itself: OpenTelemetry instruments and spans, Prometheus text, optional OTLP.

| metric | type | labels |
|---|---|---|
| warmtide_decisions_total | counter | reason |
| warmtide_desired_replicas, warmtide_ready_replicas, warmtide_forecast_skill_ratio | gauge | service |
| warmtide_signal_to_patch_seconds | histogram | |
| warmtide_reconcile_duration_seconds | histogram | outcome |
| warmtide_scrape_failures_total | counter | kind |
| warmtide_api_requests_total | counter | verb, code |
| warmtide_watch_relists_total | counter | resource |
| warmtide_refusals_total | counter | reason |
| warmtide_leader | gauge | |
| warmtide_unpublished_services | gauge | |
| warmtide_service_problem | gauge | service, condition, reason |

Labels are enums, HTTP codes and services; services are bounded, and `forget` ends their series.
Nothing here is global: two controllers in one process have two of it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from urllib.parse import urlsplit

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import NoOpTracer, Tracer
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest

from metrics.errors import TelemetryError

SERVICES_MAX = 1_500  # OpenTelemetry folds what exceeds 2,000 series into one; stay visibly below
SIGNAL_TO_PATCH_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)  # the objective is P99 ≤ 2 s
RECONCILE_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
OTLP_TIMEOUT_S = 1.5  # for traces, then metrics: a dead collector must fit a shutdown of 5 s in all

Problems = Callable[[], Iterable[tuple[str, str, str]]]  # (service, condition, reason)
Note = Callable[[str, str | int | float | bool], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TelemetryConfig:
    """Who we are, and where traces and metrics also go; without an endpoint there are no spans."""

    service_name: str = "warmtide-controller"
    otlp_endpoint: str | None = None  # base URL of an OTLP/HTTP receiver, e.g. http://collector:4318
    prefix: str = "warmtide"

    def __post_init__(self) -> None:
        if self.otlp_endpoint is not None and urlsplit(self.otlp_endpoint).scheme not in ("http", "https"):
            raise ValueError(f"otlp_endpoint must be http(s)://host:port, got {self.otlp_endpoint!r}")


@dataclass(frozen=True, slots=True)
class _Gauges:
    """The newest numbers of one service."""

    desired_replicas: int
    ready_replicas: int
    forecast_skill_ratio: float | None


def set_up(config: TelemetryConfig) -> "Telemetry":
    """Instruments and tracer; `TelemetryError` when OTLP is asked for but its package is missing."""
    resource = Resource({"service.name": config.service_name})
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    readers: list[MetricReader] = [
        PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    ]
    tracers: TracerProvider | None = None
    if config.otlp_endpoint is not None:
        reader, tracers = _otlp(config.otlp_endpoint.rstrip("/"), resource)
        readers.append(reader)
    # shutdown is ours to call: exit hooks would keep dead telemetry alive
    meters = MeterProvider(metric_readers=readers, resource=resource, shutdown_on_exit=False)
    return Telemetry(config.prefix, meters, tracers, registry)


def _otlp(endpoint: str, resource: Resource) -> tuple[MetricReader, TracerProvider]:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as exc:
        raise TelemetryError(
            f"OTLP endpoint {endpoint} is set, but its exporter is not installed: pip install 'warmtide[otlp]'"
        ) from exc
    exporter = OTLPMetricExporter(endpoint=f"{endpoint}/v1/metrics", timeout=OTLP_TIMEOUT_S)
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    spans = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=OTLP_TIMEOUT_S)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    return PeriodicExportingMetricReader(exporter), tracers


class Telemetry:
    """One controller's instruments. Every method is cheap and never raises on what happened."""

    def __init__(
        self, prefix: str, meters: MeterProvider, tracers: TracerProvider | None, registry: CollectorRegistry
    ) -> None:
        self._meters = meters
        self._tracers = tracers
        self._registry = registry
        self._tracer: Tracer = NoOpTracer() if tracers is None else tracers.get_tracer("warmtide")
        self._services: dict[str, _Gauges] = {}
        self._unpublished: set[str] = set()
        self._problems: Problems = tuple
        self._is_leader = False
        self._make_counters(prefix)
        self._make_gauges(prefix)
        self._make_problems(prefix)

    def _make_counters(self, prefix: str) -> None:
        meter = self._meters.get_meter("warmtide")
        counter, histogram = meter.create_counter, meter.create_histogram
        self._decisions = counter(f"{prefix}_decisions", description="Decisions, by the reason that settled the number")
        self._scrape_failures = counter(f"{prefix}_scrape_failures", description="Failed scrapes of pods, by kind")
        self._api_requests = counter(f"{prefix}_api_requests", description="Requests to the Kubernetes API, by code")
        self._relists = counter(f"{prefix}_watch_relists", description="Watches that had to list anew")
        self._refusals = counter(f"{prefix}_refusals", description="Services that Warmtide refused to scale, by reason")
        self._signal_to_patch = histogram(
            f"{prefix}_signal_to_patch",
            unit="s",
            description="From the sample that crossed an edge to the patch of the scale",
            explicit_bucket_boundaries_advisory=SIGNAL_TO_PATCH_BOUNDS_S,
        )
        self._reconcile_duration = histogram(
            f"{prefix}_reconcile_duration",
            unit="s",
            description="One pass over one service",
            explicit_bucket_boundaries_advisory=RECONCILE_BOUNDS_S,
        )

    def _make_gauges(self, prefix: str) -> None:
        meter = self._meters.get_meter("warmtide")

        def per_service(name: str, read: Callable[[_Gauges], float | None], description: str) -> None:
            def observe(_options: CallbackOptions) -> Iterable[Observation]:
                for service, gauges in list(self._services.items()):
                    if (value := read(gauges)) is not None:
                        yield Observation(value, {"service": service})

            meter.create_observable_gauge(f"{prefix}_{name}", callbacks=[observe], description=description)

        def single(name: str, read: Callable[[], int], description: str) -> None:
            def observe(_options: CallbackOptions) -> Iterable[Observation]:
                yield Observation(read())

            meter.create_observable_gauge(f"{prefix}_{name}", callbacks=[observe], description=description)

        per_service("desired_replicas", lambda gauges: gauges.desired_replicas, "Replicas decided on")
        per_service("ready_replicas", lambda gauges: gauges.ready_replicas, "Replicas that serve")
        per_service(
            "forecast_skill_ratio",
            lambda gauges: gauges.forecast_skill_ratio,
            "Error of the forecast over that of the naive one; below 1 it is of use",
        )

        single("leader", lambda: int(self._is_leader), "1 where this controller leads")
        single("unpublished_services", lambda: len(self._unpublished), "Services without gauges: there are too many")

    def _make_problems(self, prefix: str) -> None:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            for service, condition, reason in islice(self._problems(), SERVICES_MAX):
                yield Observation(1, {"service": service, "condition": condition, "reason": reason})

        self._meters.get_meter("warmtide").create_observable_gauge(
            f"{prefix}_service_problem",
            callbacks=[observe],
            description="1 for each condition of a service that a human should look at",
        )

    def decided(
        self,
        service: str,
        *,
        reason: str,
        desired_replicas: int,
        ready_replicas: int,
        forecast_skill_ratio: float | None = None,
    ) -> None:
        """One decision on one service."""
        self._decisions.add(1, {"reason": reason})
        if service in self._services or len(self._services) < SERVICES_MAX:
            self._services[service] = _Gauges(desired_replicas, ready_replicas, forecast_skill_ratio)
            self._unpublished.discard(service)
        else:
            self._unpublished.add(service)

    def saw_ready_replicas(self, service: str, ready_replicas: int) -> None:
        """A new count of serving replicas between two decisions."""
        if gauges := self._services.get(service):
            self._services[service] = replace(gauges, ready_replicas=ready_replicas)

    def forget(self, service: str) -> None:
        """End the series of a service that is no longer ours."""
        self._services.pop(service, None)
        self._unpublished.discard(service)

    def patched(self, signal_to_patch_s: float) -> None:
        """A scale was patched so long after the sample that asked for it."""
        self._signal_to_patch.record(signal_to_patch_s)

    def reconciled(self, duration_s: float, outcome: str = "ok") -> None:
        """One pass over one service ended."""
        self._reconcile_duration.record(duration_s, {"outcome": outcome})

    def scrape_failed(self, kind: str) -> None:
        """A scrape failed; `kind` is a `ScrapeFailure`."""
        self._scrape_failures.add(1, {"kind": str(kind)})

    def api_answered(self, verb: str, code: int) -> None:
        """The Kubernetes API answered; code 0: it did not."""
        self._api_requests.add(1, {"verb": verb, "code": str(code)})

    def relisted(self, resource: str) -> None:
        """A watch had to list anew."""
        self._relists.add(1, {"resource": resource})

    def refused(self, reason: str) -> None:
        """Warmtide refused to scale a service."""
        self._refusals.add(1, {"reason": reason})

    def show_problems(self, problems: Problems) -> None:
        """Ask this for what is wrong whenever somebody wants to know."""
        self._problems = problems

    def leads(self, is_leader: bool) -> None:
        """Whether this controller leads now; of services only who leads says something."""
        self._is_leader = is_leader
        if not is_leader:
            self._services.clear()
            self._unpublished.clear()

    @contextmanager
    def deciding(self, service: str) -> Iterator[Note]:
        """A span around one decision; call what it gives with a name and a value to note them."""
        with self._tracer.start_as_current_span("decide", attributes={"warmtide.service": service}) as span:
            yield lambda name, value: span.set_attribute(f"warmtide.{name}", value)

    def exposition(self) -> bytes:
        """All of it as Prometheus text 0.0.4."""
        return generate_latest(self._registry)

    def shutdown(self) -> None:
        """Send what is left and stop; blocks for a few seconds at most when a collector is dead."""
        if self._tracers is not None:
            self._tracers.shutdown()
        self._meters.shutdown(timeout_millis=OTLP_TIMEOUT_S * 1000)
