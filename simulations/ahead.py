"""Machine code before anybody waits for it: `python -m simulations.ahead`, a step of setting up.

Numba compiles for the processor at hand, so nothing that is shipped can spare it; the first run does it otherwise.
"""

import sys
from dataclasses import replace

from simulations.compare import compare
from simulations.policies import NAMES
from simulations.scenarios import load_scenario
from simulations.world import Setting

SCENARIOS = ("chat-hour", "agents-hour")  # all others are compiled as the first, or, with a part more, as the second
REQUESTS = 500


def compile_ahead(policies: tuple[str, ...] = NAMES) -> None:
    """Run each policy for some seconds of traffic, at once and in parts: what they use is compiled and kept."""
    plain, caching = map(_few, SCENARIOS)
    for setting in (plain, _in_parts(plain), caching):
        for _ in compare(setting, policies, lambda policy, share: None):
            pass


def _few(scenario: str) -> Setting:
    whole, _ = load_scenario(scenario).setting(seed=1)
    names = None if whole.names is None else whole.names.part(0, REQUESTS)
    return replace(whole, requests=whole.requests[:REQUESTS], names=names)


def _in_parts(setting: Setting) -> Setting:
    """The same, of which the second half is fed later."""
    half = len(setting.requests) // 2
    rest = setting.requests[half:]
    return replace(setting, requests=setting.requests[:half], more=lambda: iter([rest]), ends_at_s=setting.span_s)


if __name__ == "__main__":
    sys.stderr.write("compiling the simulator for this machine\n")
    compile_ahead()
