"""Policies side by side on services that share nodes: each policy scales all of them, with the same luck."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from simulations.compare import cost_ratio
from simulations.imports.choose import chosen
from simulations.policies.base import Policy
from simulations.policies.static import Static
from simulations.static_fleet import smallest_static
from simulations.world import Setting, Shared, simulate_together


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedRow:
    """A policy in the table."""

    policy: str
    shared: Shared
    static: Shared  # fleets that each would hold if they were alone; all policies begin with these

    def cost_ratio(self, service: int | None) -> float:
        """GPU-hours ÷ those of the static fleets; of a service, or of all."""
        if service is None:
            return cost_ratio(self.shared.gpu_hours, self.static.gpu_hours)
        return cost_ratio(self.shared.outcomes[service].gpu_hours, self.static.outcomes[service].gpu_hours)


def compare_together(
    settings: Sequence[Setting], names: Sequence[str], tell: Callable[[str, float], None]
) -> Iterator[SharedRow]:
    """The static fleets first, then each policy, as soon as it is done."""
    sized = [replace(setting, replicas_at_start=smallest_static(setting)) for setting in settings]
    replicas = [setting.replicas_at_start for setting in sized]
    static = simulate_together([(setting, Static(setting.replicas_at_start)) for setting in sized])
    yield SharedRow(policy="static-" + "+".join(map(str, replicas)), shared=static, static=static)
    for name in names:
        services: list[tuple[Setting, Policy]] = [(setting, chosen(name, setting)) for setting in sized]

        def told(share: float, name: str = name) -> None:
            tell(name, share)

        yield SharedRow(policy=name, shared=simulate_together(services, told), static=static)
