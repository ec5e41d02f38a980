"""Random small worlds on both engines: the compressed one must give every request the reference's times."""

import numpy as np
from figures import Figure

from simulations.parity import CLOSE_S, Verdict, judge, small_world

WORLDS = 10_000


def run() -> list[Figure]:
    verdicts = [judge(small_world(np.random.default_rng(seed))) for seed in range(WORLDS)]
    differing = [seed for seed, verdict in enumerate(verdicts) if not verdict.largest_s <= CLOSE_S]
    if differing:
        print(f"the engines differ in the worlds of seeds {differing[:20]}")
    return [
        Figure(name="sim_worlds", value=len(verdicts), unit="worlds", bar=WORLDS),
        Figure(
            name="sim_worlds_largest_difference",
            value=max(verdict.largest_s for verdict in verdicts),
            unit="s",
            bar=CLOSE_S,
            better="lower",
        ),
        *(
            Figure(name=f"sim_worlds_that_{name}", value=share, unit="ratio")
            for name, share in shares(verdicts).items()
        ),
    ]


def shares(verdicts: list[Verdict]) -> dict[str, float]:
    """How many of the worlds went through what."""
    return {
        "preempt": float(np.mean([verdict.preemptions > 0 for verdict in verdicts])),
        "have_adapters": float(np.mean([verdict.has_adapters for verdict in verdicts])),
        "go_on_when_one_ended": float(np.mean([verdict.following > 0 for verdict in verdicts])),
        "hit_the_cache": float(np.mean([verdict.cached_tokens > 0 for verdict in verdicts])),
    }
