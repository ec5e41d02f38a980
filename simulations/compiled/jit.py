"""Compiles the kernel where numba is installed; elsewhere the same functions run as they are."""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from autoscaler import rhythm  # the controller's own, compiled here too

P = ParamSpec("P")
R = TypeVar("R")

try:
    from .spare import config, njit
except ModuleNotFoundError:  # an optional speed-up of about a hundred times
    IS_COMPILED = False
else:
    from .compiling import Kernel, Piece

    IS_COMPILED = not config.DISABLE_JIT  # type: ignore[attr-defined]  # numba sets it from the environment

HERE = Path(__file__).parent
OTHERS = (Path(rhythm.__file__), HERE.parent / "routing.py")  # what is compiled, or a constant of it


def _cache_folder() -> str:
    """Numba notices a change in a function's own file only, not in what it calls: a folder per state of all sources."""
    sources = sha256(b"".join(path.read_bytes() for path in (*sorted(HERE.glob("*.py")), *OTHERS)))
    return str(_writable_root() / sources.hexdigest()[:16])


def _writable_root() -> Path:
    """Beside the sources; of an installation that is read-only, in the user's cache. NUMBA_CACHE_DIR is obeyed."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given:
        return Path(given)
    if os.access(HERE, os.W_OK):
        return HERE / "__pycache__"
    users = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(users) / "warmtide" / "compiled"


CACHE_FOLDER = _cache_folder()


def jit(function: Callable[P, R]) -> Callable[P, R]:
    """Machine code, kept on disk between runs."""
    return _compiled(function)


def inner(function: Callable[P, R]) -> Callable[P, R]:
    """The same, become part of each compiled function that calls it, which saves compiling it on its own."""
    return _compiled(function, inline="always")


def inner_apart(function: Callable[P, R]) -> Callable[P, R]:
    """The same for what is long and called from several places. It has no way in from Python: that would crash."""
    return _compiled(function, cache=False, pipeline_class=Piece, no_cpython_wrapper=True)


def _compiled(function: Callable[P, R], **options: Any) -> Callable[P, R]:
    if not IS_COMPILED:
        return function
    settings: dict[str, Any] = {
        "cache": True,
        "pipeline_class": Kernel,
        "no_cfunc_wrapper": True,  # nobody calls it from C
        "error_model": "numpy",  # no divisor here can be 0
        "_nrt": False,  # nothing here makes an array: counting references to those that there are took 9/10 of the time
        **options,
    }
    before, config.CACHE_DIR = config.CACHE_DIR, CACHE_FOLDER  # type: ignore[attr-defined]  # as above
    try:
        compiled: Callable[P, R] = njit(**settings)(function)
    finally:
        config.CACHE_DIR = before  # type: ignore[attr-defined]  # as above
    return compiled
