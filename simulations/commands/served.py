"""How the requests were served, in a line or two: what caches knew of the prompts, and who served beside the scaled."""

from collections.abc import Sequence

from simulations.compare import Row
from simulations.world import Setting


def served_lines(setting: Setting, rows: Sequence[Row]) -> str:
    """Empty where nothing is cached and all replicas are of one pool."""
    lines, pool = "", setting.fixed_pool
    if pool is not None:
        hours = rows[-1].outcome.fixed_gpu_hours
        lines += f"{pool.replicas} replicas {pool.role}, which nobody scales: {hours:.1f} GPU-hours of each row\n"
    hits = [(row.policy, row.outcome.prefix_hit_ratio) for row in rows]
    found = [f"{policy} {hit:.1%}" for policy, hit in hits if hit is not None]
    if found:
        lines += f"prompt tokens found in a replica's cache ({setting.router.value}): {', '.join(found)}\n"
    return lines
