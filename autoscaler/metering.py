"""The controller's instruments as telemetry has them."""

from autoscaler.policy.types import Decision
from metrics.telemetry import Telemetry


class Metering:
    """`Instruments` on OpenTelemetry."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def decided(self, key: str, decision: Decision, *, took_s: float) -> None:
        """A decision was taken."""
        forecast = decision.forecast
        with self._telemetry.deciding(key) as note:
            note("replicas", decision.replicas)
            note("reason", decision.reason.value)
            note("steps", " ".join(f"{step.replicas}:{step.reason.value}" for step in decision.steps))
        self._telemetry.decided(
            key,
            reason=decision.reason.value,
            desired_replicas=decision.replicas,
            ready_replicas=decision.supply.ready,
            forecast_skill_ratio=forecast.skill_ratio if forecast else None,
        )
        self._telemetry.reconciled(took_s)

    def scaled(self, key: str, *, signal_to_patch_s: float | None) -> None:
        """The number was written; time alone sends no signal."""
        if signal_to_patch_s is not None:
            self._telemetry.patched(signal_to_patch_s)

    def refused(self, key: str, reason: str) -> None:
        """A service is left alone, for a new reason."""
        self._telemetry.refused(reason)

    def forget(self, key: str) -> None:
        """Its series go."""
        self._telemetry.forget(key)
