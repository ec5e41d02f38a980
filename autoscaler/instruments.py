"""What the controller counts and measures; `autoscaler.__main__` binds it to telemetry, tests leave it silent."""

from typing import Protocol

from autoscaler.policy.types import Decision


class Instruments(Protocol):
    """The controller's instruments."""

    def decided(self, key: str, decision: Decision, *, took_s: float) -> None:
        """A decision was taken."""
        ...

    def scaled(self, key: str, *, signal_to_patch_s: float | None) -> None:
        """The number was written."""
        ...

    def refused(self, key: str, reason: str) -> None:
        """A service is left alone, for a new reason."""
        ...

    def forget(self, key: str) -> None:
        """A service is no longer enrolled: its series go."""
        ...


class NoInstruments:
    """Measures nothing."""

    def decided(self, key: str, decision: Decision, *, took_s: float) -> None:
        """Nothing."""

    def scaled(self, key: str, *, signal_to_patch_s: float | None) -> None:
        """Nothing."""

    def refused(self, key: str, reason: str) -> None:
        """Nothing."""

    def forget(self, key: str) -> None:
        """Nothing."""
