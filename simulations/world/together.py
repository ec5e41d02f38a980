"""Services that share nodes, in one virtual time: `simulate_together([(Setting, Policy), ...])`.

They meet at nodes only. The service for which something happens next is moved to that moment, a read of its pods
included, and then whoever waits looks around: what one lets go of another has in that very moment, the first in the
list before the second. Where they start by phases, their weights share the disk and the memory of each node, and the
line to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

from simulations.policies.base import Policy
from simulations.world.nodes import NodeUse
from simulations.world.outcome import Outcome
from simulations.world.run import Progress, Run, go_on, tenant_of
from simulations.world.setting import Setting
from simulations.world.starts.phases import Phases
from simulations.world.starts.shared import shared_holdings
from simulations.world.tenant import Tenant, Tenants

ALONE = ""  # what a service is called that has no others beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """What came of all of them."""

    outcomes: tuple[Outcome, ...]  # in the order of the services
    nodes: tuple[NodeUse, ...]

    @property
    def attainment_ratio(self) -> float:
        """Of all requests of all services, each by its own objective."""
        arrived = [int(outcome.series["arrived_requests"].sum()) for outcome in self.outcomes]
        missed = [int(outcome.series["missed_requests"].sum()) for outcome in self.outcomes]
        return 1.0 - sum(missed) / sum(arrived)

    @property
    def gpu_hours(self) -> float:
        """That replicas held."""
        return sum(outcome.gpu_hours for outcome in self.outcomes)


def simulate_together(services: Sequence[tuple[Setting, Policy]], progress: Progress | None = None) -> Shared:
    """Run each policy on its service; all have the nodes, the quota and the seed of the first, or it is refused."""
    first = services[0][0]
    for setting, _ in services:
        if (setting.nodes, setting.budget_gpus, setting.seed) != (first.nodes, first.budget_gpus, first.seed):
            raise ValueError("services that run together need the same nodes, the same budget_gpus and the same seed")
    if not first.nodes:
        raise ValueError("services that run together need nodes that they share")
    span_s = max(setting.span_s for setting, _ in services)
    nodes = first.make_nodes()
    tenants = Tenants(nodes)
    places = [tenant_of(setting, tenants) for setting, _ in services]
    _share_disks([setting for setting, _ in services], places)
    runs = [
        Run(replace(setting, ends_at_s=span_s), policy, tenant)
        for (setting, policy), tenant in zip(services, places, strict=True)
    ]
    go_on(runs, span_s, progress)
    return Shared(outcomes=tuple(run.end() for run in runs), nodes=nodes.use(span_s))


def _share_disks(settings: Sequence[Setting], places: Sequence[Tenant]) -> None:
    """Those that start by phases have their weights on the same disks."""
    phased = {
        f"service {number}": (setting.startup, tenant)
        for number, (setting, tenant) in enumerate(zip(settings, places, strict=True))
        if isinstance(setting.startup, Phases)
    }
    if not phased:
        return
    on_nodes = {name: (phases, tenant.nodes) for name, (phases, tenant) in phased.items()}
    random = Random(f"{settings[0].seed} others")
    for name, holdings in shared_holdings(on_nodes, random, places[0].memory).items():
        phased[name][1].holdings = holdings
