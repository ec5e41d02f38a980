"""Numba without what it looks for beside itself, which takes longer to load than all kernels once they are compiled.

That multiplies matrices, calls C and measures coverage: kernels do none of it. Who uses numba for these things in the
same process will be told that they are not installed.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNUSED = ("scipy", "scipy.linalg.cython_blas", "cffi", "coverage")


@contextmanager
def _hidden() -> Iterator[None]:
    """Not to be found meanwhile, unless they have been loaded: then they cost nothing."""
    hidden = set(UNUSED) - set(sys.modules)
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: importing it fails
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _hidden():
    from numba import config, njit
    from numba.core.typing import cffi_utils as cffi_utils
    from numba.np import arraymath as arraymath

__all__ = ["config", "njit"]
