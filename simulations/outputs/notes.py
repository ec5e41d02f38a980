"""What came of a run beside its table, a line each, where there is anything to say."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from simulations.world import Outcome
from simulations.world.nodes import NodeUse
from simulations.world.outcome import PoolUse
from simulations.world.starts.startup import StartFigures, StartsOfTier

GB = 1e9


def notes_of(outcome: Outcome) -> Iterator[str]:
    """For people: start-ups, caches, what nodes came to and took with them."""
    if starts := starts_note(outcome.startups):
        yield starts
    if outcome.prefix_hit_ratio is not None:
        yield f"{outcome.prefix_hit_ratio:.1%} of the prompt tokens were found in a replica's cache"
    if outcome.fixed_gpu_hours:
        yield f"{outcome.fixed_gpu_hours:.1f} of the GPU-hours are of a pool that nobody scales"
    for use in outcome.pools:
        yield f"{use.role}: {'; '.join(filter(None, (f'{use.gpu_hours:.1f} GPU-hours', starts_note(use.startups))))}"
    yield from loss_notes(outcome)


def starts_note(figures: StartFigures) -> str:
    """How many of each tier, how long the middle one took, what was fetched; empty where nothing was."""
    words = [_of_tier(each) for each in figures.by_tier]
    if figures.fetched_bytes:
        words.append(f"{figures.fetched_bytes / GB:.0f} GB came from the origin")
    if figures.evictions:
        words.append(f"its weights were evicted {'once' if figures.evictions == 1 else f'{figures.evictions} times'}")
    return f"starts: {'; '.join(words)}" if words else ""


def loss_notes(outcome: Outcome) -> Iterator[str]:
    """What nodes took with them, and what each group of them came to."""
    if outcome.lost_requests:
        yield f"{outcome.lost_requests:,} requests were lost with their nodes"
    if outcome.waited_hours:
        yield f"replicas waited {outcome.waited_hours:.1f} h for a node"
    yield from map(nodes_note, outcome.nodes)


def nodes_note(use: NodeUse) -> str:
    """What a group of nodes came to."""
    fates = [f"{use.reclaims} reclaimed"] * (use.reclaims > 0) + [f"{use.losses} lost"] * (use.losses > 0)
    return f"nodes {use.group}: {', '.join((f'{use.gpu_hours:.1f} GPU-hours for ${use.cost:.2f}', *fates))}"


def facts_of(outcome: Outcome) -> dict[str, Any]:
    """The same for programs; what there is nothing of has no name."""
    figures = outcome.startups
    facts: dict[str, Any] = {
        "starts_by_tier": [asdict(each) for each in figures.by_tier],
        "fetched_bytes": figures.fetched_bytes,
        "evictions": figures.evictions,
        "prefix_hit_ratio": outcome.prefix_hit_ratio,
        "fixed_gpu_hours": outcome.fixed_gpu_hours,
        "pools": [_pool_facts(use) for use in outcome.pools],
        "lost_requests": outcome.lost_requests,
        "waited_hours": outcome.waited_hours,
        "nodes": [asdict(use) for use in outcome.nodes],
    }
    return {name: value for name, value in facts.items() if value or (name == "prefix_hit_ratio" and value is not None)}


def _pool_facts(use: PoolUse) -> dict[str, Any]:
    by_tier = [asdict(each) for each in use.startups.by_tier]
    return {"role": use.role, "gpu_hours": use.gpu_hours, "starts": use.starts, "starts_by_tier": by_tier}


def _of_tier(starts: StartsOfTier) -> str:
    where = " from memory" if starts.from_memory else ""
    return f"{starts.count} {starts.tier}{where}, median {starts.median_s:.0f} s"
