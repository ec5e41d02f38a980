"""How kernels are compiled, which builds on parts of numba that are its own: after an update this says what is gone."""

import math
import subprocess
import sys
from importlib import import_module
from operator import attrgetter
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from simulations.compiled.jit import IS_COMPILED, inner, inner_apart, jit
from simulations.compiled.notice import told_of_compiling

pytestmark = pytest.mark.skipif(not IS_COMPILED, reason="numba is not installed")

Longs = NDArray[np.int64]

USED = {
    "numba._dynfunc": ("make_function",),
    "numba.core.base": ("BaseContext.insert_user_function",),
    "numba.core.bytecode": ("ByteCode", "FunctionIdentity.from_function"),
    "numba.core.codegen": ("CPUCodeLibrary._get_module_for_linking", "CPUCodeLibrary.finalize", "JITCodeLibrary"),
    "numba.core.compiler": ("CompilerBase.define_pipelines", "Flags.no_compile"),
    "numba.core.inline_closurecall": ("_replace_args_with", "_replace_returns"),
    "numba.core.interpreter": ("Interpreter.interpret",),
    "numba.core.rewrites.static_getitem": ("RewriteConstGetitems.match", "RewriteConstSetitems.apply"),
    "numba.core.ssa": ("reconstruct_ssa",),
    "numba.core.transforms": ("canonicalize_cfg",),
    "numba.core.typed_passes": ("PreLowerStripPhis._strip_phi_nodes", "NativeLowering", "NoPythonBackend"),
    "numba.core.typing.context": ("BaseContext.resolve_function_type",),
}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in USED.items() for name in names])
def test_numba_has_what_compiling_builds_on(module: str, name: str) -> None:
    assert attrgetter(name)(import_module(module)) is not None


def test_numba_is_loaded_without_what_it_does_not_need_which_others_find_as_ever() -> None:
    code = """if True:
        import sys
        import simulations.compiled
        print([name for name in ("scipy", "cffi", "coverage") if name in sys.modules])
        import scipy.linalg.cython_blas
        """

    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert ran.stdout == "[]\n"


@inner
def first_above(values: Longs, bound: int, start: int = 0) -> int:
    """Returns from within a loop; its names are those of who calls it."""
    for place in range(start, len(values)):
        if values[place] > bound:
            return place
    return -1


@inner_apart
def counted(values: Longs, bound: int) -> int:
    place, count = first_above(values, bound), 0
    while place >= 0:
        count += 1
        place = first_above(values, bound, start=place + 1)
    return count


@jit
def places_above(values: Longs, bound: int) -> tuple[int, int, int]:
    place = first_above(values, bound)
    after = first_above(values, bound + 1, place + 1)
    return place, after, counted(values, bound)


def test_what_is_called_by_place_by_name_and_by_default_becomes_part_of_the_kernel() -> None:
    found = places_above(np.array([1, 5, 2, 9, 5, 6]), 4)

    assert found == (1, 3, 4)


def test_what_is_called_from_several_places_has_no_machine_code_of_its_own() -> None:
    counted.compile("(int64[::1], int64)")  # type: ignore[attr-defined]  # numba's dispatcher
    library = next(iter(counted.overloads.values())).library  # type: ignore[attr-defined]  # as above

    assert type(library).__name__ == "_PieceLibrary"


@jit
def plain(first: float, second: int) -> tuple[float, float, int]:
    return min(first, second), max(first, second), int(first)


@pytest.mark.parametrize(
    ("first", "second"), [(1.5, 2), (-2.5, -2), (2.0, 2), (-0.0, 0)], ids=["less", "below 0", "equal", "zeros"]
)
def test_numbers_are_compared_and_cut_as_python_does(first: float, second: int) -> None:
    assert plain(first, second) == (min(first, second), max(first, second), int(first))


@jit
def lesser(first: float, second: float) -> float:
    return min(first, second)


@pytest.mark.parametrize(("first", "second"), [(math.nan, 1.0), (1.0, math.nan)], ids=["first", "second"])
def test_what_is_no_number_is_compared_as_python_does(first: float, second: float) -> None:
    assert str(lesser(first, second)) == str(min(first, second))


class Parts(NamedTuple):
    """The last one may be missing: an empty tuple."""

    values: Longs
    names: Longs | tuple[()]


@jit
def named(parts: Parts, place: int) -> int:
    if len(parts.names):
        return int(parts.names[place] + parts.names.sum())  # type: ignore[union-attr]  # as above
    return int(parts.values[place])


def test_what_needs_a_part_that_is_missing_is_not_looked_at() -> None:
    assert named(Parts(np.array([7, 8]), ()), 1) == 8


@jit
def with_step(value: float) -> int:
    def step(height: float) -> int:
        return int(value_of(height) / 2)

    return step(value) + step(2 * value)


@inner
def value_of(height: float) -> float:
    return height + 1.0


def test_a_function_within_a_kernel_is_inlined_where_it_is_called() -> None:
    assert with_step(5.0) == 8


@inner_apart
def within(value: int) -> int:
    return value + 1


@inner_apart
def around(value: int) -> int:
    return within(value) + within(value)


def test_who_waits_for_machine_code_is_told_once_when_it_begins_and_when_it_ends() -> None:
    told: list[str] = []

    with told_of_compiling(lambda: told.append("begins"), lambda: told.append("ends")):
        for _ in range(2):  # the second time there is nothing to compile
            around.compile("(int64,)")  # type: ignore[attr-defined]  # as above

    assert told == ["begins", "ends"]
