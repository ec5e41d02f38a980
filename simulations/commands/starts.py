"""What start-ups came to, in a line: how many of each tier, how long the middle one took, what was fetched."""

from simulations.world.startup import StartFigures, StartsOfTier

GB = 1e9


def starts_line(figures: StartFigures) -> str:
    """Empty where nothing was started and nothing fetched."""
    words = [_of_tier(each) for each in figures.by_tier]
    if figures.fetched_bytes:
        words.append(f"{figures.fetched_bytes / GB:.0f} GB came from the origin")
    if figures.evictions:
        words.append(f"its weights were evicted {figures.evictions} times")
    return f"starts: {'; '.join(words)}\n" if words else ""


def _of_tier(starts: StartsOfTier) -> str:
    where = " from memory" if starts.from_memory else ""
    return f"{starts.count} {starts.tier}{where}, median {starts.median_s:.0f} s"
