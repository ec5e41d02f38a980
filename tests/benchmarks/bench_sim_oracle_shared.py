"""The oracle's bounds beside every policy where several are scaled: both pools of a service, services on shared nodes.

Each pool and each service is held against the bound of itself alone, at the attainment that its users had. Start-ups
take exactly the lead time, as in `bench_sim_oracle`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from figures import Figure

from simulations.imports.choose import chosen, chosen_for_all
from simulations.oracle import Oracle, demands_of
from simulations.policies import NAMES
from simulations.policies.static import Static
from simulations.scenarios import TOGETHER, Scenario, Together, load_any, shipped_text
from simulations.scenarios.config import parse_scenario
from simulations.static_fleet import fixed, sized
from simulations.world import Setting, simulate, simulate_together
from simulations.world.starts.startup import StartupTimes

LEAD_S = 60.0
SEED = 1
POOLS = "pools: {prefill: {max: 8, maxNumBatchedTokens: 8192}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}\n"


def run() -> Iterator[Figure]:
    """How many were cheaper than can be, and what Warmtide pays over the bound."""
    yield from _figures("oracle_two_pools", _of_pools())
    for name in TOGETHER:
        yield from _figures(f"oracle_{name.replace('-', '_')}", _of_services(name))


def _figures(key: str, runs: Iterator[tuple[str, list[float]]]) -> Iterator[Figure]:
    """Of each policy the ratios of what its parts paid to their bounds."""
    made = dict(runs)
    ratios = [ratio for each in made.values() for ratio in each]
    beaten = sum(ratio < 1.0 for ratio in ratios)
    yield Figure(name=f"{key}_beaten_by", value=beaten, unit=f"of {len(ratios)}", bar=0, better="lower")
    for policy in ("warmtide", "static"):
        mean = sum(made[policy]) / len(made[policy])
        yield Figure(name=f"{key}_{policy}", value=mean, unit="x its bound, mean of parts")


def _of_pools() -> Iterator[tuple[str, list[float]]]:
    scenario = parse_scenario(shipped_text("chat-hour") + POOLS, "two pools", Path())
    if not isinstance(scenario, Scenario):
        raise TypeError(f"expected one service, got {type(scenario).__name__}")
    setting = _begun(scenario)
    oracles = {role: Oracle(demand, LEAD_S) for role, demand in demands_of(setting).items()}
    for name in ("static", *NAMES):
        outcome = simulate(setting, fixed(setting) if name == "static" else chosen_for_all(name, setting))
        yield name, [_over(oracles[use.role], use.gpu_hours, outcome.attainment_ratio) for use in outcome.pools]


def _of_services(scenario: str) -> Iterator[tuple[str, list[float]]]:
    together = load_any(scenario)
    if not isinstance(together, Together):
        raise TypeError(f"expected several services, got {type(together).__name__}")
    settings = [_begun(service) for service in together.services]
    oracles = [Oracle(demand, LEAD_S) for setting in settings for demand in demands_of(setting).values()]
    for name in ("static", *NAMES):
        services = [(one, Static(one.replicas_at_start) if name == "static" else chosen(name, one)) for one in settings]
        shared = simulate_together(services)
        paid = zip(oracles, shared.outcomes, strict=True)
        yield name, [_over(oracle, one.gpu_hours, one.attainment_ratio) for oracle, one in paid]


def _begun(scenario: Scenario) -> Setting:
    startup = StartupTimes(cold_s=LEAD_S, warm_s=LEAD_S, log_deviation=0.0)
    return replace(sized(scenario.setting(SEED)[0])[0], startup=startup)


def _over(oracle: Oracle, gpu_hours: float, attainment_ratio: float) -> float:
    """GPU-hours ÷ the bound at the same attainment; 0 where the oracle calls the attainment impossible."""
    try:
        return gpu_hours / oracle.lower_hours(max(attainment_ratio, 1e-6))
    except ValueError:
        return 0.0
