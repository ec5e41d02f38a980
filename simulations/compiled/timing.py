"""How long steps take, and runs of equal steps."""

import math

from .jit import inner
from .layout import Record


@inner
def steps_started(machine: Record, replica: Record, at_s: float) -> int:
    """How many steps of the run under way have started by then: the last of them ends after it."""
    first_s = decode_s(machine, replica)
    rise_s = machine["kv_token_s"] * replica["decoding"]
    half = first_s - rise_s / 2
    elapsed_s = at_s - replica["started_at_s"]
    steps = int(2 * elapsed_s / (half + math.sqrt(half * half + 2 * rise_s * elapsed_s))) + 1
    # The root is as exact as floats are; the boundary must be as exact as the times that are reported.
    while steps > 1 and replica["started_at_s"] + run_s(first_s, rise_s, steps - 1) > at_s:
        steps -= 1
    while steps < replica["jump_steps"] and replica["started_at_s"] + run_s(first_s, rise_s, steps) <= at_s:
        steps += 1
    return int(min(steps, replica["jump_steps"]))


@inner
def set_run(machine: Record, replica: Record, steps: int) -> None:
    replica["jump_steps"] = steps
    rise_s = machine["kv_token_s"] * replica["decoding"]
    replica["event_at_s"] = replica["started_at_s"] + run_s(decode_s(machine, replica), rise_s, steps)


@inner
def decode_s(machine: Record, replica: Record) -> float:
    """How long the next step takes if it only decodes."""
    return float(
        machine["base_s"]
        + machine["decode_sequence_s"] * replica["decoding"]
        + machine["kv_token_s"] * replica["kv_tokens"]
    )


@inner
def run_s(first_s: float, rise_s: float, steps: int) -> float:
    return steps * first_s + rise_s * (steps * (steps - 1) / 2)
