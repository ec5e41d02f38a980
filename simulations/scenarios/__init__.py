"""Scenarios that ship, by name, and those of users, by file."""

from functools import cache
from importlib import resources
from pathlib import Path

from simulations.errors import ScenarioError

from .scenario import Scenario, block_names

__all__ = ["NAMES", "Scenario", "block_names", "load_scenario"]

_FILES = resources.files("simulations.scenarios") / "files"
NAMES = tuple(sorted(entry.name.removesuffix(".yaml") for entry in _FILES.iterdir() if entry.name.endswith(".yaml")))


@cache
def load_scenario(name: str) -> Scenario:
    """A shipped scenario, or that of a file whose name ends in .yaml; ScenarioError says what is wrong."""
    from simulations.scenarios.config import parse_scenario  # pydantic: not for those who only list names

    if name in NAMES:
        return parse_scenario((_FILES / f"{name}.yaml").read_text(encoding="utf-8"), name, Path())
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise ScenarioError(f"no scenario named {name!r}; there are: {', '.join(NAMES)}, or a file FILE.yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ScenarioError(f"scenario {name} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ScenarioError(f"scenario {name}: expected text, got the byte 0x{exc.object[exc.start]:02x}") from exc
    return parse_scenario(text, name, path.parent)
