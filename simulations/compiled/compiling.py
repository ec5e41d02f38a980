"""How numba is to compile kernels: by no needless pass, and what only kernels call with them.

Left out is what looks for closures, generators, `with`, literals and expressions of arrays, of which kernels have none,
and what writes down where a variable ends, which only counting references must know.
"""

# What numba is made of has no types.
# mypy: disable-error-code="no-untyped-call"

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba import _dynfunc  # type: ignore[attr-defined]  # it is C
from numba.core import typed_passes
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import FunctionPass, PassManager, register_pass
from numba.core.ir_utils import build_definitions
from numba.core.ssa import reconstruct_ssa

from .inlining import inline_all, tidy, translated


class Kernel(CompilerBase):
    """What Python calls."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        with _nothing_collected():
            return super().compile_extra(func)

    def define_pipelines(self) -> list[Any]:
        return [_passes(_Inlined, _Typed, _WithoutPhis, _Lowered, _Done)]


class Piece(CompilerBase):
    """What only kernels call: a part of their machine code, never any of its own."""

    def define_pipelines(self) -> list[Any]:
        return [_passes(_Inlined, _Typed, _WithoutPhis, _LoweredPiece, _Done)]


def _passes(*passes: type) -> Any:
    found = PassManager("kernel")
    for one in passes:
        found.add_pass(one, one.__name__)
    found.finalize()
    return found


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """Nearly all that compiling makes is in use until its end, and much to the end of all: to look for garbage in it
    takes a tenth of the time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.freeze()
            gc.enable()


# After passes that are said to change blocks, numba would find out once more where each variable begins and ends.
_pass = register_pass(mutates_CFG=False, analysis_only=False)


@_pass
class _Inlined(FunctionPass):
    """From bytecode to IR of which each variable is assigned once."""

    _name = "inlined"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.func_ir = translated(state.func_id.func)
        state.nargs = state.func_ir.arg_count
        inline_all(state.func_ir, state.args)
        tidy(state.func_ir)
        reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = build_definitions(state.func_ir.blocks)
        return True


@_pass
class _Typed(typed_passes.NopythonTypeInference):
    _name = "typed"

    def run_pass(self, state: Any) -> bool:
        context, state.typingctx = state.typingctx, _Remembering(state.typingctx)
        super().run_pass(state)
        state.typingctx = context
        return True


class _Remembering:
    """Types, of which numba asks the same again and again, and finds each answer by trying all that there are."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._known: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def resolve_function_type(self, func: Any, args: Any, kws: Any) -> Any:
        """What calling a function with such arguments gives."""
        if kws:
            return self._context.resolve_function_type(func, args, kws)
        asked = (func, args)
        if asked not in self._known:
            self._known[asked] = self._context.resolve_function_type(func, args, kws)
        return self._known[asked]


@_pass
class _WithoutPhis(typed_passes.PreLowerStripPhis):
    _name = "without_phis"

    def run_pass(self, state: Any) -> bool:
        state.func_ir = self._strip_phi_nodes(state.func_ir)
        return True


@_pass
class _Lowered(typed_passes.NativeLowering):
    _name = "lowered"


@_pass
class _LoweredPiece(typed_passes.NativeLowering):
    _name = "lowered_piece"

    def run_pass(self, state: Any) -> bool:
        name = state.func_id.func_qualname
        state.flags.no_compile = True
        state.library = _PieceLibrary(state.targetctx.codegen(), name)
        super().run_pass(state)
        lowered = state.cr
        # A way in from Python by which nobody comes: numba knows functions by it.
        entry = _dynfunc.make_function(lowered.fndesc.lookup_module(), name, "", 0, lowered.env, (state.library,))
        state.targetctx.insert_user_function(entry, lowered.fndesc, [state.library])
        state.cr = lowered._replace(cfunc=entry)
        return True


@_pass
class _Done(typed_passes.NoPythonBackend):
    _name = "done"


class _PieceLibrary(JITCodeLibrary):
    """Code that is optimised, and made into machine code, only where it is linked in."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True
