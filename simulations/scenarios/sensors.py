"""The part of a scenario file that says what policies see: how often Prometheus looks, and what goes wrong for a while.

sensors:
  scrapeSeconds: 30 # who asks Prometheus sees pages of so often, 15 without this; Warmtide reads the pods itself
  ruleSeconds: 60 # recording rules, for those that need them: keda-slo
  faults: # of all replicas' pages, for every policy
    - {kind: missing, beginSeconds: 1200, endSeconds: 1500} # not read: Prometheus marks the series as ended
    - {kind: stuck, beginSeconds: 1800, endSeconds: 1900} # read, and always the same
    - {kind: late, beginSeconds: 2000, endSeconds: 2100, amount: 40} # seconds
    - {kind: scaled, beginSeconds: 2400, endSeconds: 2500, amount: 3} # gauges so many times too high
"""

from simulations.scenarios.parts import Part, Positive, Seconds
from simulations.world.sensing.faults import FaultKind, SensorFault
from simulations.world.sensing.prometheus import Monitoring

_WITH_AMOUNT = (FaultKind.LATE, FaultKind.SCALED)


class FaultPart(Part):
    """As `SensorFault`."""

    kind: FaultKind
    begin_seconds: Seconds
    end_seconds: Positive
    amount: Seconds | None = None  # or a factor

    def made(self) -> SensorFault:
        """As a setting takes it; ValueError."""
        if (self.amount is None) == (self.kind in _WITH_AMOUNT):
            needs = "needs an amount" if self.amount is None else "has no amount"
            raise ValueError(f"sensors.faults: a fault of the kind {self.kind} {needs}")
        if self.end_seconds <= self.begin_seconds:
            raise ValueError(f"sensors.faults: endSeconds must be after beginSeconds, got {self.end_seconds:g}")
        amount = 1.0 if self.amount is None else self.amount
        return SensorFault(kind=self.kind, begin_s=self.begin_seconds, end_s=self.end_seconds, amount=amount)


class SensorsPart(Part):
    """As `Monitoring` and the faults of a setting."""

    scrape_seconds: Positive | None = None
    rule_seconds: Positive | None = None
    faults: tuple[FaultPart, ...] = ()

    def monitoring(self) -> Monitoring:
        """As a setting takes it; ValueError."""
        try:
            return Monitoring(scrape_s=self.scrape_seconds, rule_s=self.rule_seconds)
        except ValueError as exc:
            raise ValueError(f"sensors.{exc}") from exc

    def made_faults(self) -> tuple[SensorFault, ...]:
        """The same; ValueError."""
        return tuple(fault.made() for fault in self.faults)
