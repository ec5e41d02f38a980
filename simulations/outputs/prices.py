"""What a GPU-hour costs, what a GPU draws, and the budgets that a run must keep: values, and the gate over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Prices as kserve-vllm-mini's cost.yaml ships them (2025): round figures of on-demand clouds, to be replaced by yours.
PRICES_PER_HOUR = {
    "NVIDIA-A10": 1.10,
    "NVIDIA-A100-40GB": 3.50,
    "NVIDIA-A100-80GB": 4.90,
    "NVIDIA-H100-80GB": 6.50,
}
PRICE_PER_HOUR = 1.50  # of any other
OVERHEAD_FRACTION = 0.10
# Total board power of NVIDIA's data sheets; idle is what an SXM board with weights loaded draws, a fifth of it.
BOARD_WATTS = {"a100": 400.0, "h100": 700.0, "h200": 700.0, "l40s": 350.0}
BOARD_WATTS_OTHER = 400.0
IDLE_SHARE = 0.2
PRODUCTS = {"a100": "NVIDIA-A100-80GB", "h100": "NVIDIA-H100-80GB", "h200": "NVIDIA-H200", "l40s": "NVIDIA-L40S"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Of one GPU of one product."""

    gpu: str = "default"
    per_gpu_hour: float = PRICE_PER_HOUR
    overhead_fraction: float = OVERHEAD_FRACTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Watts:
    """Of one GPU; an estimate, and where it is from."""

    busy: float
    idle: float
    source: str = "board power of the vendor's data sheet while a request runs, a fifth of it otherwise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One budget beside what the run made of it."""

    name: str
    actual: float
    budget: float

    @property
    def holds(self) -> bool:
        """Whether the budget was kept."""
        return self.actual <= self.budget

    def line(self) -> str:
        """For humans; says by how much a budget was missed."""
        over = "" if self.holds else f", over by {_short(self.actual - self.budget)}"
        return f"{self.name}: {_short(self.actual)}, budget {_short(self.budget)}{over}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"  # no powers of ten


# A budget's name in slo.json, and where its actual value is in results.json and energy.json.
BUDGETS = {
    "p95_ms": ("results", "p95_ms"),
    "ttft_p95_ms": ("results", "ttft_p95_ms"),
    "error_rate": ("results", "error_rate"),
    "$per_1k_tokens": ("results", "cost_per_1k_tokens"),
    "Wh_per_1k_tokens_max": ("energy", "Wh_per_1k_tokens_active"),
}
# A share that must be reached, turned into one that must not be exceeded.
ATTAINMENT = "ttft_attainment_min"


def prices_of(profile: str, per_hour: Mapping[str, float] = PRICES_PER_HOUR, default: float = PRICE_PER_HOUR) -> Prices:
    """By the GPU in a profile's name."""
    gpu = PRODUCTS.get(_chip(profile), "default")
    return Prices(gpu=gpu, per_gpu_hour=per_hour.get(gpu, default))


def watts_of(profile: str) -> Watts:
    """The same for power."""
    board = BOARD_WATTS.get(_chip(profile), BOARD_WATTS_OTHER)
    return Watts(busy=board, idle=board * IDLE_SHARE)


def gate(budgets: Mapping[str, float], results: Mapping[str, Any], energy: Mapping[str, Any]) -> list[Check]:
    """Every budget that is set beside its actual value; a value that a run could not give is infinite."""
    documents = {"results": results, "energy": energy}
    checks = []
    for name, budget in budgets.items():
        if name == ATTAINMENT:
            missed = 1.0 - results["autoscaler"]["attainment_ratio"]
            checks.append(Check(name="share of first tokens too late", actual=missed, budget=1.0 - budget))
        else:
            document, key = BUDGETS[name]
            actual = documents[document].get(key)
            checks.append(Check(name=name, actual=float("inf") if actual is None else actual, budget=budget))
    return checks


def _chip(profile: str) -> str:
    return next((chip for chip in PRODUCTS if chip in profile.lower()), "")
