"""Compiles the kernel where numba is installed; elsewhere the same functions run as they are."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import ParamSpec, TypeVar

from autoscaler import rhythm  # the controller's own, compiled here too

P = ParamSpec("P")
R = TypeVar("R")

try:
    from numba import config, njit
except ModuleNotFoundError:  # an optional speed-up of about a hundred times
    IS_COMPILED = False
else:
    IS_COMPILED = not config.DISABLE_JIT  # type: ignore[attr-defined]  # numba sets it from the environment

HERE = Path(__file__).parent


def _cache_folder() -> str:
    """Numba notices a change in a function's own file only, not in what it calls: a folder per state of all sources."""
    sources = sha256(b"".join(path.read_bytes() for path in (*sorted(HERE.glob("*.py")), Path(rhythm.__file__))))
    return str(HERE / "__pycache__" / sources.hexdigest()[:16])


CACHE_FOLDER = _cache_folder()


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Machine code, kept on disk between runs; `error_model` as NumPy's, since no divisor here can be 0."""
    if not IS_COMPILED:
        return function
    before, config.CACHE_DIR = config.CACHE_DIR, CACHE_FOLDER  # type: ignore[attr-defined]  # as above
    try:
        compiled: Callable[P, R] = njit(cache=True, error_model="numpy")(function)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]  # as above
    return compiled
