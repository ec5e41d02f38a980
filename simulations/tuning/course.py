"""Traffic that policies are tried on: of one service, of both its pools, or of services that share nodes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from simulations.policies.base import Pair, Policy, Role
from simulations.policies.static import Static
from simulations.static_fleet import fixed, sized, smallest_static
from simulations.world import ALONE, Outcome, Setting, simulate, simulate_together
from simulations.world.paired import setting_of_prefill


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What came of a service in one or several courses, and what the smallest fixed fleet would have cost there."""

    requests: int = 0
    met: float = 0.0
    gpu_hours: float = 0.0
    static_gpu_hours: float = 0.0

    def __add__(self, other: "Served") -> "Served":
        return Served(
            requests=self.requests + other.requests,
            met=self.met + other.met,
            gpu_hours=self.gpu_hours + other.gpu_hours,
            static_gpu_hours=self.static_gpu_hours + other.static_gpu_hours,
        )

    @property
    def attainment_ratio(self) -> float:
        """Of all requests."""
        return self.met / self.requests

    @property
    def cost_ratio(self) -> float:
        """GPU-hours ÷ those of the fixed fleet."""
        return self.gpu_hours / self.static_gpu_hours


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Services by their names, each of which begins with the smallest fixed fleet that would do if it were alone."""

    services: Mapping[str, Setting]
    static_gpu_hours: tuple[float, ...]  # of each

    @property
    def parts(self) -> Mapping[str, Setting]:
        """What each policy scales, by the name that it has: the services, or both pools of one."""
        if ALONE not in self.services or not self.services[ALONE].scales_both:
            return self.services
        setting = self.services[ALONE]
        return {Role.PREFILL.value: setting_of_prefill(setting), Role.DECODE.value: setting}

    def serve(self, policies: Mapping[str, Policy]) -> tuple[Served, ...]:
        """What these policies, one for each part, make of each service."""
        outcomes = _outcomes(self.services, policies)
        return tuple(
            Served(
                requests=len(outcome.requests),
                met=outcome.attainment_ratio * len(outcome.requests),
                gpu_hours=outcome.gpu_hours,
                static_gpu_hours=static,
            )
            for outcome, static in zip(outcomes, self.static_gpu_hours, strict=True)
        )


def begun(services: Mapping[str, Setting]) -> Course:
    """With the fixed fleets that they begin with, and their cost."""
    if ALONE in services:
        setting, found = sized(services[ALONE])
        static = found or simulate(setting, fixed(setting))
        return Course(services={ALONE: setting}, static_gpu_hours=(static.gpu_hours,))
    fleets = {name: smallest_static(setting) for name, setting in services.items()}
    settings = {name: replace(setting, replicas_at_start=fleets[name]) for name, setting in services.items()}
    held = _outcomes(settings, {name: Static(replicas) for name, replicas in fleets.items()})
    return Course(services=settings, static_gpu_hours=tuple(outcome.gpu_hours for outcome in held))


def _outcomes(services: Mapping[str, Setting], policies: Mapping[str, Policy]) -> tuple[Outcome, ...]:
    if ALONE not in services:
        return simulate_together([(setting, policies[name]) for name, setting in services.items()]).outcomes
    setting = services[ALONE]
    if not setting.scales_both:
        return (simulate(setting, policies[ALONE]),)
    pair = Pair(prefill=policies[Role.PREFILL.value], decode=policies[Role.DECODE.value])
    return (simulate(setting, pair),)
