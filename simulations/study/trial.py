"""One run of many: which policy on which traffic with which luck, and the few figures that come back."""

from dataclasses import dataclass, replace
from functools import lru_cache

from simulations.compare import smallest_static
from simulations.imports.choose import chosen
from simulations.policies.static import Static
from simulations.scenarios import Scenario
from simulations.world import Setting, simulate

STATIC = "static"  # the smallest fixed fleet that holds the objective on this traffic
SETTINGS_KEPT = 2  # a process works off one traffic after another; a day of requests takes 90 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Everything a process needs to know; equal trials give equal figures."""

    scenario: Scenario
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

    @property
    def is_plain(self) -> bool:
        """The policy as it is, neither more nor less eager."""
        return self.eagerness_ratio == 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of a trial."""

    key: Key
    attainment_ratio: float
    ttft_p95_s: float
    gpu_hours: float
    starts: int


def carry_out(trial: Trial) -> Figures:
    """Simulate it. All policies on one traffic begin with the fixed fleet's number and have the same luck."""
    setting = _setting(trial.scenario, trial.seed)
    if trial.policy == STATIC:
        replicas = setting.bounds.clamp(round(setting.replicas_at_start * trial.eagerness_ratio))
        outcome = simulate(replace(setting, replicas_at_start=replicas), Static(replicas))
    else:
        outcome = simulate(setting, chosen(trial.policy, setting, eagerness_ratio=trial.eagerness_ratio))
    return Figures(
        key=trial.key,
        attainment_ratio=outcome.attainment_ratio,
        ttft_p95_s=outcome.ttft_p95_s,
        gpu_hours=outcome.gpu_hours,
        starts=outcome.starts,
    )


@lru_cache(maxsize=SETTINGS_KEPT)
def _setting(scenario: Scenario, seed: int) -> Setting:
    """The traffic of a seed; it starts with as many replicas as the smallest fixed fleet that holds has."""
    setting, _ = scenario.setting(seed)
    return replace(setting, replicas_at_start=smallest_static(setting))
