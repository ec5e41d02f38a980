"""A long course of requests, few at a time: what is done makes room for what comes."""

from collections.abc import Iterable, Iterator
from itertools import chain

from simulations.compiled.layout import Records
from simulations.world.setting import Setting

STRETCH_MAX = 16_384  # requests fed at once: their records fit into a core's own cache


def as_they_come(setting: Setting) -> tuple[Records, Iterator[Records]]:
    """What the fleet knows from the start, and what it is told on the way: nothing, where all fits into memory."""
    if setting.more is None:
        return setting.requests, iter(())
    stretches = _stretches(chain([setting.requests], setting.more()))
    return next(stretches), stretches


def _stretches(parts: Iterable[Records]) -> Iterator[Records]:
    for part in parts:
        for first in range(0, len(part), STRETCH_MAX):
            yield part[first : first + STRETCH_MAX]
