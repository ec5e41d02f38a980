"""Scenarios that ship, by name, and those of users, by file."""

from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from simulations.errors import ScenarioError

from .scenario import Scenario, Together, block_names

__all__ = ["NAMES", "TOGETHER", "Scenario", "Together", "block_names", "load_any", "load_scenario", "shipped_text"]

_FILES = resources.files("simulations.scenarios") / "files"
_TOGETHER_FILES = _FILES / "together"


def _names(folder: Traversable) -> tuple[str, ...]:
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in folder.iterdir() if entry.name.endswith(".yaml")))


NAMES = _names(_FILES)
TOGETHER = _names(_TOGETHER_FILES)  # several services on the same nodes


def shipped_text(name: str) -> str:
    """The file of a scenario that ships."""
    folder = _FILES if name in NAMES else _TOGETHER_FILES
    return (folder / f"{name}.yaml").read_text(encoding="utf-8")


def load_scenario(name: str) -> Scenario:
    """One service's scenario that ships, or that of a file; ScenarioError says what is wrong."""
    found = load_any(name)
    if isinstance(found, Together):
        raise ScenarioError(
            f"scenario {name} is of several services: run, compare, tune and oracle take it; "
            "here a file of one of them is expected"
        )
    return found


@cache
def load_any(name: str) -> Scenario | Together:
    """A shipped scenario, or that of a file whose name ends in .yaml; ScenarioError says what is wrong."""
    from simulations.scenarios.config import parse_scenario  # pydantic: not for those who only list names

    if name in (*NAMES, *TOGETHER):
        return parse_scenario(shipped_text(name), name, Path())
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        names = ", ".join((*NAMES, *TOGETHER))
        raise ScenarioError(f"no scenario named {name!r}; there are: {names}, or a file FILE.yaml")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise ScenarioError(f"scenario {name} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ScenarioError(f"scenario {name}: expected text, got the byte 0x{exc.object[exc.start]:02x}") from exc
    return parse_scenario(text, name, path.parent)
