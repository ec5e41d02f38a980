"""`cost.yaml` and `slo.json` as kserve-vllm-mini has them; keys that concern other tools are passed over."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from .errors import PriceError
from .prices import ATTAINMENT, BUDGETS, PRICE_PER_HOUR, PRICES_PER_HOUR, Prices, prices_of

FILE_BYTES_MAX = 100_000


def read_prices(path: Path, profile: str) -> Prices:
    """The price of a profile's GPU: `gpu: {default: 1.5, NVIDIA-…: 4.9}`, `overhead: {fraction: 0.1}`."""
    document = _document(path, yaml.safe_load)
    gpus = {name: _number(path, f"gpu.{name}", value) for name, value in _part(path, document, "gpu").items()}
    overhead = _part(path, document, "overhead").get("fraction", Prices().overhead_fraction)
    found = prices_of(profile, PRICES_PER_HOUR | gpus, gpus.get("default", PRICE_PER_HOUR))
    return replace(found, overhead_fraction=_number(path, "overhead.fraction", overhead))


def read_budgets(path: Path) -> dict[str, float]:
    """The budgets of slo.json that a simulation can judge; at least one must be there."""
    document = _document(path, json.loads)
    known = (*BUDGETS, ATTAINMENT)
    found = {name: _number(path, name, document[name]) for name in known if name in document}
    if not found:
        raise PriceError(f"{path}: none of the budgets that a simulation can judge: {', '.join(known)}")
    if found.get(ATTAINMENT, 0.0) > 1.0:
        raise PriceError(f"{path}: {ATTAINMENT} is {found[ATTAINMENT]:g}, must be a share ≤ 1")
    return found


def _document(path: Path, parse: Callable[[str], Any]) -> dict[str, Any]:
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise PriceError(f"{path}: larger than {FILE_BYTES_MAX:,} bytes")
        document = parse(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise PriceError(f"{path}: {exc.strerror}") from exc
    except (ValueError, yaml.YAMLError) as exc:
        raise PriceError(f"{path}: cannot be parsed: {' '.join(str(exc).split())}") from exc
    if not isinstance(document, dict):
        raise PriceError(f"{path}: expected a mapping, got {type(document).__name__}")
    return document


def _part(path: Path, document: dict[str, Any], name: str) -> dict[str, Any]:
    part = document.get(name, {})
    if not isinstance(part, dict):
        raise PriceError(f"{path}: {name} must be a mapping, got {str(part)[:40]!r}")
    return part


def _number(path: Path, field: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise PriceError(f"{path}: {field} is {str(value)[:40]!r}, must be a number ≥ 0")
    return float(value)
