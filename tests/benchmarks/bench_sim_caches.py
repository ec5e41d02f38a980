"""What caches of nodes are worth: the same bursts, seed by seed, on nodes that keep nothing, keep, or fetch ahead.

Ratios to nodes that keep nothing, over all seeds; bytes are all that the origin gave, also for other models there.
"""

from collections.abc import Iterator
from dataclasses import replace

from figures import Figure

from simulations.imports.choose import chosen
from simulations.scenarios import load_scenario
from simulations.static_fleet import smallest_static
from simulations.world import Outcome, Setting, simulate
from simulations.world.starts.caches import Keeping
from simulations.world.starts.phases import Phases

SCENARIO = "cold-origin"
SEEDS = range(1, 9)
POLICIES = ("warmtide", "hpa-queue")
MISSES_MAX_RATIO = 0.5  # of those without caches
HOURS_MAX_RATIO = 1.0


def run() -> list[Figure]:
    settings = [setting_of(seed) for seed in SEEDS]
    return [figure for policy in POLICIES for figure in figures_of(policy, settings)]


def figures_of(policy: str, settings: list[Setting]) -> Iterator[Figure]:
    """Of one policy; bars are for our own."""
    bare = [course(policy, setting, Keeping.NONE) for setting in settings]
    key, is_ours = policy.replace("-", "_"), policy == "warmtide"
    yield Figure(name=f"{key}_none_missed", value=missed_ratio(bare), unit="of requests")
    for keep in (Keeping.ON_DEMAND, Keeping.ALL_NODES, Keeping.PREFETCH):
        found = [course(policy, setting, keep) for setting in settings]
        has_bar = is_ours and keep is Keeping.PREFETCH
        name = f"{key}_{keep.replace('-', '_')}"
        yield Figure(
            name=f"{name}_missed",
            value=missed_ratio(found) / missed_ratio(bare),
            unit="x none",
            bar=MISSES_MAX_RATIO if has_bar else None,
            better="lower",
        )
        yield Figure(
            name=f"{name}_gpu_hours",
            value=sum(one.gpu_hours for one in found) / sum(one.gpu_hours for one in bare),
            unit="x none",
            bar=HOURS_MAX_RATIO if has_bar else None,
            better="lower",
        )
        yield Figure(name=f"{name}_bytes", value=fetched_bytes(found) / fetched_bytes(bare), unit="x none")


def setting_of(seed: int) -> Setting:
    """The smallest fixed fleet that holds begins, as in `warmtide sim run`."""
    setting, _ = load_scenario(SCENARIO).setting(seed)
    return replace(setting, replicas_at_start=smallest_static(setting))


def course(policy: str, setting: Setting, keep: Keeping) -> Outcome:
    """On nodes that keep weights so."""
    if not isinstance(setting.startup, Phases):
        raise TypeError(f"the replicas of {SCENARIO} do not start by phases")
    kept = replace(setting, startup=setting.startup.keeping(keep))
    return simulate(kept, chosen(policy, kept))


def missed_ratio(found: list[Outcome]) -> float:
    """Of all requests of all seeds."""
    return sum((1 - one.attainment_ratio) * len(one.requests) for one in found) / sum(
        len(one.requests) for one in found
    )


def fetched_bytes(found: list[Outcome]) -> float:
    """From the origin."""
    return sum(one.startups.fetched_bytes for one in found)
