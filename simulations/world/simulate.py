"""One service in virtual time, under a policy or under one for each of its pools."""

from simulations.policies.base import Pair, Policy
from simulations.world.outcome import Outcome
from simulations.world.paired import simulate_pair
from simulations.world.run import Progress, simulate_one
from simulations.world.sensing.sensors import Sensing
from simulations.world.setting import Setting


def simulate(
    setting: Setting, policy: Policy | Pair, progress: Progress | None = None, *, sensing: type[Sensing] | None = None
) -> Outcome:
    """Run it through the setting; the same seed gives the same outcome, and every policy the same luck."""
    if isinstance(policy, Pair):
        return simulate_pair(setting, policy, progress, sensing=sensing)
    if setting.scales_both:
        raise ValueError("a setting that scales prefill and decoding needs a pair of policies")
    return simulate_one(setting, policy, progress, sensing=sensing)
