"""What may be turned, and the ScalingPolicy that a position of all knobs is.

Every position is tried as the object that would be written: the controller's own parser reads it, so what was
simulated is what the controller would do.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from autoscaler.parse import parse_policy
from autoscaler.policy.spec import Mode, PolicySpec
from simulations.policies.warmtide import Warmtide
from simulations.world import Setting

API_VERSION, KIND = "warmtide.dev/v1alpha1", "ScalingPolicy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A number of a ScalingPolicy: its place in the spec, the range that is searched, and what it is untouched."""

    field: tuple[str, ...]
    low: float
    high: float
    default: float
    digits: int  # after the point; more would pretend to know more
    is_scale: bool = False  # it is searched by factors, not by differences

    @property
    def name(self) -> str:
        """Its place as people write it."""
        return ".".join(self.field)

    def value(self, place: float) -> float:
        """The number at a place between 0 and 1."""
        span = self.high - self.low
        raw = self.low * math.exp(place * math.log(self.high / self.low)) if self.is_scale else self.low + span * place
        return round(float(min(self.high, max(self.low, raw))), self.digits)

    @property
    def default_place(self) -> float:
        """Where the default stands."""
        if self.is_scale:
            return math.log(self.default / self.low) / math.log(self.high / self.low)
        return (self.default - self.low) / (self.high - self.low)


def _knob(name: str, ends: tuple[float, float], default: float, digits: int, *, is_scale: bool = False) -> Knob:
    field, (low, high) = tuple(name.split(".")), ends
    return Knob(field=field, low=low, high=high, default=default, digits=digits, is_scale=is_scale)


_PLAIN = PolicySpec()
_TARGETS, _DOWN = _PLAIN.targets, _PLAIN.scale_down
KNOBS = (
    _knob("targets.headroom", (0.4, 1.0), _TARGETS.headroom_ratio, 2),
    _knob("targets.queueRequests", (0.25, 32.0), _TARGETS.queue_requests or 2.0, 2, is_scale=True),
    _knob("targets.kvCacheUtilization", (0.4, 0.98), _TARGETS.kv_cache_usage_ratio or 0.8, 2),
    _knob("behavior.scaleDown.stabilizationWindowSeconds", (0, 1800), _DOWN.stabilization_window_s, 0),
    _knob("behavior.scaleDown.tolerance", (0.0, 0.3), _DOWN.tolerance_ratio, 2),
    _knob("forecast.maxRaise", (0.0, 2.0), _PLAIN.forecast.max_raise_ratio, 2),
)
DEFAULT_PLACES = tuple(knob.default_place for knob in KNOBS)


def document(name: str, setting: Setting, goal_ratio: float, places: Sequence[float]) -> dict[str, Any]:
    """The ScalingPolicy of a position; knobs at their default are left out."""
    spec: dict[str, Any] = {
        "mode": str(Mode.ADVISE),
        "replicas": {"min": setting.bounds.low, "max": setting.bounds.high},
        "objectives": {"ttftSeconds": setting.ttft_s, **_itl(setting), "attainment": goal_ratio},
        "leadTimePriorSeconds": setting.startup.cold_s,
    }
    for knob, place in zip(KNOBS, places, strict=True):
        value = knob.value(place)
        if value != knob.default:
            _put(spec, knob.field, value if knob.digits else int(value))
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": name}, "spec": spec}


def _itl(setting: Setting) -> dict[str, float]:
    return {} if setting.itl_s is None else {"itlSeconds": setting.itl_s}


def named(name: str, part: str) -> str:
    """What the object of a part is called."""
    return f"{name}-{part}" if part else name


def policy_of(found: Mapping[str, Any]) -> Warmtide:
    """The controller's reading of an object, as a policy of the simulator: one that scales, whatever its mode."""
    direct = copy.deepcopy(dict(found))
    direct["spec"]["mode"] = str(Mode.DIRECT)
    return Warmtide(spec=parse_policy(direct).spec)


def turned(found: Mapping[str, Any]) -> dict[str, float]:
    """The knobs that an object sets, by name."""
    spec, values = found["spec"], {}
    for knob in KNOBS:
        node = spec
        for part in knob.field:
            node = node.get(part, {}) if isinstance(node, dict) else {}
        if isinstance(node, int | float):
            values[knob.name] = node
    return values


def _put(spec: dict[str, Any], field: Sequence[str], value: float) -> None:
    for part in field[:-1]:
        spec = spec.setdefault(part, {})
    spec[field[-1]] = value
