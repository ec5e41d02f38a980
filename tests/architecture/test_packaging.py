"""The literal top-level packages ship together, alone, and are not shadowed by a foreign distribution."""

import importlib.util
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parents[2]
PACKAGES = {"autoscaler", "nodeagent", "cacheops", "metrics", "simulations"}


def test_the_wheel_holds_exactly_the_five_packages_and_the_front_door(tmp_path: Path) -> None:
    [wheel] = list(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"]))

    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}

    assert {top for top in tops if not top.endswith(".dist-info")} == PACKAGES | {"warmtide.py"}


def test_all_packages_are_found_beside_each_other() -> None:
    homes = {Path(str(importlib.util.find_spec(name).origin)).parent.parent for name in PACKAGES}  # type: ignore[union-attr]

    assert homes == {ROOT}, "another distribution shadows one of our packages: install Warmtide in a venv of its own"


def test_every_package_tells_type_checkers_that_it_is_typed() -> None:
    assert [name for name in sorted(PACKAGES) if not (ROOT / name / "py.typed").exists()] == []
