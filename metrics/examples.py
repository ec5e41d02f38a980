"""A controller's telemetry that has something to say under every name: for tests of its page."""

from metrics.errors import ScrapeFailure
from metrics.telemetry import Telemetry, TelemetryConfig, set_up


def busy_telemetry() -> Telemetry:
    """It leads, and service ns/a was decided to have 3 replicas. Who asks for it shuts it down."""
    telemetry = set_up(TelemetryConfig())
    telemetry.decided("ns/a", reason="FollowingQueue", desired_replicas=3, ready_replicas=2, forecast_skill_ratio=0.75)
    telemetry.patched(0.3)
    telemetry.reconciled(0.002)
    telemetry.scrape_failed(ScrapeFailure.TIMEOUT)
    telemetry.api_answered("patch", 409)
    telemetry.relisted("pods")
    telemetry.refused("HPAConflict")
    telemetry.show_problems(lambda: [("ns/a", "DataFresh", "NoFreshData")])
    telemetry.leads(True)
    return telemetry
