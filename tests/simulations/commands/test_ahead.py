"""What is compiled ahead is all that a run needs."""

from dataclasses import replace
from importlib import import_module

import pytest

from simulations.ahead import REQUESTS, compile_ahead
from simulations.compare import compare
from simulations.compiled.jit import IS_COMPILED
from simulations.policies import NAMES
from simulations.scenarios import load_scenario

MODULES = ("kernel", "loss", "records", "scrapes", "sight")


@pytest.fixture(scope="module")
def ahead() -> None:
    compile_ahead()


@pytest.mark.skipif(not IS_COMPILED, reason="without numba there is nothing to compile")
@pytest.mark.parametrize("scenario", ["chat-hour", "agents-hour", "cold-origin"])
@pytest.mark.usefixtures("ahead")
def test_a_run_after_it_compiles_nothing_more(scenario: str) -> None:
    before = signatures()
    setting, _ = load_scenario(scenario).setting(seed=2)
    names = setting.names and setting.names.part(0, REQUESTS)

    for _ in compare(replace(setting, requests=setting.requests[:REQUESTS], names=names), NAMES, lambda *_: None):
        pass

    assert before
    assert signatures() == before


def signatures() -> dict[str, list[object]]:
    """Of each compiled function, what it was compiled for."""
    found = {}
    for name in MODULES:
        for function in vars(import_module(f"simulations.compiled.{name}")).values():
            if hasattr(function, "signatures") and function.signatures:
                found[str(function)] = list(function.signatures)
    return found
