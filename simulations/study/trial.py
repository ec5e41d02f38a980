"""One run of many: which policy on which traffic with which luck, and the few figures that come back."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from simulations.imports.choose import chosen, chosen_for_all
from simulations.policies.base import Pair, Policy, Role
from simulations.policies.static import Static
from simulations.scenarios import Scenario, Together
from simulations.static_fleet import fixed, resized, sized
from simulations.world import Outcome, Setting, Shared, simulate, simulate_together
from simulations.world.tally import pace_quantile_s, ttft_quantile_s

STATIC = "static"  # the smallest fixed fleet that holds the objective on this traffic
SETTINGS_KEPT = 2  # a process works off one traffic after another; a day of requests takes 90 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Everything a process needs to know; equal trials give equal figures."""

    scenario: Scenario | Together
    seed: int
    policy: str
    eagerness_ratio: float = 1.0

    @property
    def key(self) -> "Key":
        """What tells it from the others of a study."""
        return Key(
            scenario=self.scenario.name, seed=self.seed, policy=self.policy, eagerness_ratio=self.eagerness_ratio
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A trial by its names."""

    scenario: str
    seed: int
    policy: str
    eagerness_ratio: float
    service: str = ""  # one of several; empty: all of them, or the only one

    @property
    def is_plain(self) -> bool:
        """The policy as it is, neither more nor less eager."""
        return self.eagerness_ratio == 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of a trial; None: there is no such thing in its world."""

    key: Key
    attainment_ratio: float
    ttft_p95_s: float
    gpu_hours: float
    starts: int
    requests: int | None = None  # how many came, where that is up to the policy
    prefix_hit_ratio: float | None = None
    lost_requests: int | None = None  # with their nodes
    waited_hours: float | None = None  # of replicas without a node
    nodes_cost: float | None = None
    prefill_gpu_hours: float | None = None  # of all, where both pools are scaled
    decode_gpu_hours: float | None = None
    tpot_p95_s: float | None = None  # of requests' mean times between tokens, where there is an objective for it
    services: tuple["Figures", ...] = ()  # of several, each its own; nodes are of all of them


def figures_of(key: Key, setting: Setting, outcome: Outcome) -> Figures:
    """Of one run of one service."""
    has_nodes = bool(setting.nodes)
    of_pool = {use.role: use.gpu_hours for use in outcome.pools}
    return Figures(
        key=key,
        attainment_ratio=outcome.attainment_ratio,
        ttft_p95_s=outcome.ttft_p95_s,
        gpu_hours=outcome.gpu_hours,
        starts=outcome.starts,
        requests=len(outcome.requests) if setting.has_clients else None,
        prefix_hit_ratio=outcome.prefix_hit_ratio,
        lost_requests=outcome.lost_requests if has_nodes else None,
        waited_hours=outcome.waited_hours if has_nodes else None,
        nodes_cost=sum(use.cost for use in outcome.nodes) if outcome.nodes else None,
        prefill_gpu_hours=of_pool.get(Role.PREFILL),
        decode_gpu_hours=of_pool.get(Role.DECODE),
        tpot_p95_s=None if setting.itl_s is None else pace_quantile_s(outcome.requests, 0.95),
    )


def figures_of_all(key: Key, settings: Mapping[str, Setting], shared: Shared) -> Figures:
    """Of one run of several services, by their names."""
    outcomes = shared.outcomes
    return Figures(
        key=key,
        attainment_ratio=shared.attainment_ratio,
        ttft_p95_s=ttft_quantile_s(np.concatenate([one.requests for one in outcomes]), 0.95),
        gpu_hours=shared.gpu_hours,
        starts=sum(one.starts for one in outcomes),
        lost_requests=sum(one.lost_requests for one in outcomes),
        waited_hours=sum(one.waited_hours for one in outcomes),
        nodes_cost=sum(use.cost for use in shared.nodes),
        services=tuple(
            figures_of(replace(key, service=name), setting, one)
            for (name, setting), one in zip(settings.items(), outcomes, strict=True)
        ),
    )


def carry_out(trial: Trial) -> Figures:
    """Simulate it. All policies on one traffic begin with the fixed fleet's number and have the same luck."""
    if isinstance(trial.scenario, Together):
        settings = _settings(trial.scenario, trial.seed)
        shared = simulate_together([_of_several(setting, trial) for setting in settings.values()])
        return figures_of_all(trial.key, settings, shared)
    setting = _setting(trial.scenario, trial.seed)
    return figures_of(trial.key, setting, simulate(*_with_policy(setting, trial)))


def _of_several(setting: Setting, trial: Trial) -> tuple[Setting, Policy]:
    if trial.policy != STATIC:
        return setting, chosen(trial.policy, setting, eagerness_ratio=trial.eagerness_ratio)
    fleet = resized(setting, trial.eagerness_ratio)
    return fleet, Static(fleet.replicas_at_start)


def _with_policy(setting: Setting, trial: Trial) -> tuple[Setting, Policy | Pair]:
    if trial.policy != STATIC:
        return setting, chosen_for_all(trial.policy, setting, eagerness_ratio=trial.eagerness_ratio)
    fleet = resized(setting, trial.eagerness_ratio)
    return fleet, fixed(fleet)


@lru_cache(maxsize=SETTINGS_KEPT)
def _setting(scenario: Scenario, seed: int) -> Setting:
    return _sized(scenario, seed)


@lru_cache(maxsize=SETTINGS_KEPT)
def _settings(together: Together, seed: int) -> Mapping[str, Setting]:
    """Of each service by its name, sized as if it were alone."""
    return {service.name: _sized(service, seed) for service in together.services}


def _sized(scenario: Scenario, seed: int) -> Setting:
    """The traffic of a seed; it starts with as many replicas as the smallest fixed fleet that holds has."""
    setting, _ = scenario.setting(seed)
    return sized(setting)[0]
