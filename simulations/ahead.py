"""Machine code before anybody waits for it: `python -m simulations.ahead`, a step of setting up.

Numba compiles for the processor at hand, so nothing that is shipped can spare it; the first run does it otherwise.
"""

import sys
from dataclasses import replace

from simulations.compare import compare
from simulations.policies import NAMES
from simulations.scenarios import load_scenario
from simulations.world import Setting

SCENARIO = "chat-hour"  # what compiles is the same for all
REQUESTS = 500


def compile_ahead(policies: tuple[str, ...] = NAMES) -> None:
    """Run each policy for some seconds of traffic, at once and in parts: what they use is compiled and kept."""
    setting = _few()
    half = len(setting.requests) // 2
    rest = setting.requests[half:]
    parts = replace(setting, requests=setting.requests[:half], more=lambda: iter([rest]), ends_at_s=setting.span_s)
    for one in (setting, parts):
        for _ in compare(one, policies, lambda policy, share: None):
            pass


def _few() -> Setting:
    whole, _ = load_scenario(SCENARIO).setting(seed=1)
    return replace(whole, requests=whole.requests[:REQUESTS])


if __name__ == "__main__":
    sys.stderr.write("compiling the simulator for this machine\n")
    compile_ahead()
