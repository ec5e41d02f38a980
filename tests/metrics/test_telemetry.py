"""What the controller says of itself, read back with our own parser; and OTLP to a real receiver."""

import asyncio
import socket
import sys
from collections.abc import Iterator

import pytest
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from metrics.errors import ScrapeFailure, TelemetryError
from metrics.exposition import parse
from metrics.telemetry import OTLP_TIMEOUT_S, SERVICES_MAX, Telemetry, TelemetryConfig, set_up


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = set_up(TelemetryConfig())
    yield telemetry
    telemetry.shutdown()


def values(telemetry: Telemetry) -> dict[str, float]:
    """Every series of ours, as `name{label=value}`."""
    return {
        series.name + "".join(f"{{{name}={value}}}" for name, value in series.labels): series.value
        for family in parse(telemetry.exposition())
        for series in family.series
        if series.name.startswith("warmtide_")
    }


def decide(telemetry: Telemetry, service: str, desired: int = 3) -> None:
    telemetry.decided(service, reason="FollowingQueue", desired_replicas=desired, ready_replicas=2)


def test_every_instrument_says_what_happened(telemetry: Telemetry) -> None:
    telemetry.decided("ns/a", reason="FollowingQueue", desired_replicas=3, ready_replicas=2, forecast_skill_ratio=0.75)
    telemetry.decided("ns/a", reason="Steady", desired_replicas=4, ready_replicas=3)
    telemetry.patched(0.3)
    telemetry.reconciled(0.002)
    telemetry.reconciled(0.2, outcome="failed")
    telemetry.scrape_failed(ScrapeFailure.TIMEOUT)
    telemetry.api_answered("patch", 409)
    telemetry.relisted("pods")
    telemetry.refused("HPAPresent")
    telemetry.leads(True)

    seen = values(telemetry)

    expected = {
        "warmtide_decisions_total{reason=FollowingQueue}": 1.0,
        "warmtide_decisions_total{reason=Steady}": 1.0,
        "warmtide_desired_replicas{service=ns/a}": 4.0,
        "warmtide_ready_replicas{service=ns/a}": 3.0,
        "warmtide_signal_to_patch_seconds_count": 1.0,
        "warmtide_signal_to_patch_seconds_sum": 0.3,
        "warmtide_signal_to_patch_seconds_bucket{le=0.25}": 0.0,
        "warmtide_signal_to_patch_seconds_bucket{le=0.5}": 1.0,
        "warmtide_reconcile_duration_seconds_count{outcome=ok}": 1.0,
        "warmtide_reconcile_duration_seconds_count{outcome=failed}": 1.0,
        "warmtide_scrape_failures_total{kind=Timeout}": 1.0,
        "warmtide_api_requests_total{code=409}{verb=patch}": 1.0,
        "warmtide_watch_relists_total{resource=pods}": 1.0,
        "warmtide_refusals_total{reason=HPAPresent}": 1.0,
        "warmtide_leader": 1.0,
        "warmtide_unpublished_services": 0.0,
    }
    assert {name: seen.get(name) for name in expected} == expected
    assert "warmtide_forecast_skill_ratio{service=ns/a}" not in seen  # the last decision had none


def test_the_process_is_described_too(telemetry: Telemetry) -> None:
    names = {family.name for family in parse(telemetry.exposition())}

    assert {"process_cpu_seconds_total", "process_resident_memory_bytes", "python_info"} <= names


def test_series_of_a_service_that_is_gone_disappear(telemetry: Telemetry) -> None:
    decide(telemetry, "ns/a")
    decide(telemetry, "ns/b")
    assert "warmtide_desired_replicas{service=ns/a}" in values(telemetry)

    telemetry.forget("ns/a")
    telemetry.forget("ns/never-seen")

    seen = values(telemetry)
    assert not [name for name in seen if "ns/a" in name]
    assert seen["warmtide_desired_replicas{service=ns/b}"] == 3.0


def test_who_leads_no_more_says_nothing_of_services(telemetry: Telemetry) -> None:
    telemetry.leads(True)
    decide(telemetry, "ns/a")

    telemetry.leads(False)

    seen = values(telemetry)
    assert not [name for name in seen if "ns/a" in name]
    assert (seen["warmtide_leader"], seen["warmtide_decisions_total{reason=FollowingQueue}"]) == (0.0, 1.0)


def test_problems_are_there_as_long_as_they_are(telemetry: Telemetry) -> None:
    found = [("ns/a", "DataFresh", "NoFreshData"), ("ns/b", "NotContested", "HPAConflict")]
    telemetry.show_problems(lambda: found)
    series = "warmtide_service_problem{condition=DataFresh}{reason=NoFreshData}{service=ns/a}"
    assert values(telemetry)[series] == 1.0

    found.pop(0)

    assert series not in values(telemetry)
    assert sum(name.startswith("warmtide_service_problem") for name in values(telemetry)) == 1


def test_ready_replicas_may_change_between_decisions(telemetry: Telemetry) -> None:
    decide(telemetry, "ns/a")

    telemetry.saw_ready_replicas("ns/a", 5)
    telemetry.saw_ready_replicas("ns/never-seen", 5)

    seen = values(telemetry)
    assert (seen["warmtide_ready_replicas{service=ns/a}"], seen["warmtide_desired_replicas{service=ns/a}"]) == (
        5.0,
        3.0,
    )
    assert "warmtide_ready_replicas{service=ns/never-seen}" not in seen


def test_the_number_of_services_is_bounded_and_the_rest_is_counted(telemetry: Telemetry) -> None:
    for number in range(SERVICES_MAX + 2):
        decide(telemetry, f"ns/{number}")
    full = values(telemetry)

    telemetry.forget("ns/0")
    decide(telemetry, f"ns/{SERVICES_MAX}")
    after = values(telemetry)

    assert sum(name.startswith("warmtide_desired_replicas{") for name in full) == SERVICES_MAX
    assert full["warmtide_unpublished_services"] == 2.0
    assert full["warmtide_decisions_total{reason=FollowingQueue}"] == SERVICES_MAX + 2
    assert after[f"warmtide_desired_replicas{{service=ns/{SERVICES_MAX}}}"] == 3.0
    assert after["warmtide_unpublished_services"] == 1.0


def test_two_in_one_process_share_nothing(telemetry: Telemetry) -> None:
    other = set_up(TelemetryConfig(prefix="warmtide"))
    decide(telemetry, "ns/a")

    assert not [name for name in values(other) if "ns/a" in name]
    other.shutdown()
    assert values(telemetry)["warmtide_desired_replicas{service=ns/a}"] == 3.0


def test_the_prefix_is_ours_to_choose() -> None:
    telemetry = set_up(TelemetryConfig(prefix="tide"))
    decide(telemetry, "ns/a")

    assert b'tide_desired_replicas{service="ns/a"} 3.0\n' in telemetry.exposition()
    telemetry.shutdown()


def test_a_span_without_a_collector_costs_nothing_and_breaks_nothing(telemetry: Telemetry) -> None:
    with telemetry.deciding("ns/a") as note:
        note("replicas", 3)

    with pytest.raises(LookupError), telemetry.deciding("ns/a"):
        raise LookupError("a bug passes through")


# --- OTLP ------------------------------------------------------------------------------------------------------------


async def test_spans_and_metrics_reach_an_otlp_receiver() -> None:
    received: dict[str, list[bytes]] = {}

    async def take(request: web.Request) -> web.Response:
        received.setdefault(request.path, []).append(await request.read())
        return web.Response(content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/{signal}", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    telemetry = set_up(TelemetryConfig(otlp_endpoint=f"http://127.0.0.1:{runner.addresses[0][1]}/"))
    decide(telemetry, "ns/a")
    with telemetry.deciding("ns/a") as note:
        note("replicas", 3)
        note("reason", "FollowingQueue")

    await asyncio.to_thread(telemetry.shutdown)
    await runner.cleanup()

    (span,) = [
        span
        for body in received["/v1/traces"]
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    names = {
        metric.name
        for body in received["/v1/metrics"]
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    attributes = {one.key: one.value.string_value or one.value.int_value for one in span.attributes}
    assert span.name == "decide"
    assert attributes == {"warmtide.service": "ns/a", "warmtide.replicas": 3, "warmtide.reason": "FollowingQueue"}
    assert {"warmtide_decisions", "warmtide_desired_replicas"} <= names


async def test_a_collector_that_hangs_does_not_hold_up_the_shutdown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        telemetry = set_up(TelemetryConfig(otlp_endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}"))
        decide(telemetry, "ns/a")
        with telemetry.deciding("ns/a"):
            pass

        await asyncio.wait_for(asyncio.to_thread(telemetry.shutdown), timeout=4 * OTLP_TIMEOUT_S)


def test_otlp_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.metric_exporter", None)

    with pytest.raises(TelemetryError, match=r"warmtide\[otlp\]"):
        set_up(TelemetryConfig(otlp_endpoint="http://collector:4318"))


def test_an_endpoint_that_is_no_url_is_refused() -> None:
    with pytest.raises(ValueError, match="otlp_endpoint"):
        TelemetryConfig(otlp_endpoint="collector:4318")
