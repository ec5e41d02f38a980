"""How numba is to compile: inlined from the outside in, without what a world does not have, and by no needless pass.

Numba's own pass inlines what a function calls before it inlines that function, and copies all of it again at each
level, every block with the names of all blocks; and each argument is a variable more, which for a `World` is a hundred
numbers to move. Here a function is copied as it was written, what it calls is inlined where it came to stand, and
arguments keep the names that they have outside.

Where a branch asks for the length of a part of the world that is an empty tuple (`layout.without_parts`), what needs
that part is not even looked at: a kernel of most worlds is compiled in half of the time.
"""

# What numba is made of has no types.
# mypy: disable-error-code="no-untyped-call"

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from numba.core import ir, typed_passes, types, untyped_passes
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.inline_closurecall import InlineWorker, callee_ir_validator
from numba.core.ir_utils import build_definitions, get_definition, guard, replace_vars, simplify_CFG
from numba.core.postproc import PostProcessor

Blocks = dict[int, Any]


class OutsideIn(CompilerBase):
    """Numba's compiler with the pass below in the place of its own.

    Left out is what looks for generators, `with`, literals and expressions of arrays, of which kernels have
    none, and what writes down when a variable ends, which only counting references must know.
    """

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        with _nothing_collected():
            return super().compile_extra(func)

    def define_pipelines(self) -> list[Any]:
        return [
            _passes(
                *AS_WRITTEN,
                _InlineOutsideIn,
                untyped_passes.ReconstructSSA,
                typed_passes.NopythonTypeInference,
                typed_passes.PreLowerStripPhis,
                typed_passes.AnnotateTypes,
                typed_passes.NativeLowering,
                typed_passes.NoPythonBackend,
            )
        ]


AS_WRITTEN = (
    untyped_passes.TranslateByteCode,
    untyped_passes.FixupArgs,
    untyped_passes.IRProcessing,
    untyped_passes.InlineClosureLikes,
    untyped_passes.GenericRewrites,
)


def _passes(*passes: type) -> Any:
    found = PassManager("kernel")
    for one in passes:
        found.add_pass(one, one.__name__)
    found.finalize()
    return found


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """All that compiling makes is in use until its end: to look for garbage in it takes a tenth of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Translated(InlineWorker):
    """Gives each function as it was written, translated once."""

    def __init__(self, state: Any) -> None:
        parts = (state.typingctx, state.targetctx, state.locals, state.pipeline, state.flags)
        super().__init__(*parts, validator=callee_ir_validator)
        self._known: dict[Callable[..., Any], Any] = {}
        self._compiler_pipeline = _as_written

    def run_untyped_passes(self, func: Callable[..., Any], enable_ssa: bool = False) -> Any:
        if func not in self._known:
            self._known[func] = super().run_untyped_passes(func, enable_ssa)
        return self._known[func]


def _as_written(state: Any, name: str = "as written") -> Any:
    return _passes(*AS_WRITTEN)


@register_pass(mutates_CFG=True, analysis_only=False)
class _InlineOutsideIn(untyped_passes.InlineInlinables):
    _name = "inline_outside_in"

    def run_pass(self, state: Any) -> bool:
        """Go from block to block, and only where the function can come to."""
        blocks, worker = state.func_ir.blocks, _Translated(state)
        first = min(blocks)
        todo, seen = [first], {first}
        while todo:
            block = blocks[todo.pop()]
            self._inline_first(state, block, worker)
            _pass_by_missing(state, block)
            reached = set(block.terminator.get_targets()) - seen
            todo += reached
            seen |= reached
        _tidy(state.func_ir)
        return True

    def _inline_first(self, state: Any, block: Any, worker: _Translated) -> None:
        """The first call of a block that is to be inlined; what came after it becomes a block that follows."""
        for place, statement in enumerate(block.body):
            if _is_expression(statement, "call") and guard(
                self._do_work, state, None, block, place, statement.value, worker
            ):
                return


def _is_expression(statement: Any, operation: str) -> bool:
    is_one = isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Expr)
    return is_one and statement.value.op == operation


def _pass_by_missing(state: Any, block: Any) -> None:
    """Where a branch asks whether there is something in a part of an argument that is an empty tuple."""
    branch = block.terminator
    if isinstance(branch, ir.Branch):
        part = guard(_part_asked_for, state.func_ir, branch.cond)
        if part is not None and _is_missing(state, part):
            block.body[-1] = ir.Jump(branch.falsebr, branch.loc)


def _part_asked_for(function: Any, condition: Any) -> Any:
    """`x` of a condition `bool(len(x))`, as it was defined; None of another one."""
    for outer in (bool, len):
        call = get_definition(function, condition)
        if not isinstance(call, ir.Expr) or call.op != "call":
            return None
        called = get_definition(function, call.func)
        if not isinstance(called, ir.Global) or called.value is not outer:
            return None
        condition = call.args[0]
    return get_definition(function, condition)


def _is_missing(state: Any, part: Any) -> bool:
    """Whether it is the field of an argument, and the argument's type says that it is an empty tuple."""
    if not isinstance(part, ir.Expr) or part.op != "getattr":
        return False
    argument = guard(get_definition, state.func_ir, part.value)
    whole = state.args[argument.index] if isinstance(argument, ir.Arg) else None
    return isinstance(whole, types.NamedTuple) and whole[whole.fields.index(part.attr)] == types.Tuple(())


def _tidy(function: Any) -> None:
    for dead in compute_cfg_from_blocks(function.blocks).dead_nodes():
        del function.blocks[dead]
    _forward_copies(function.blocks)
    _forget_names(function.blocks)
    function._definitions = build_definitions(function.blocks)
    PostProcessor(function).run()
    function.blocks = simplify_CFG(function.blocks)


def _forward_copies(blocks: Blocks) -> None:
    """Use the original of what is assigned once and is a copy of what is assigned once."""
    assigned = [statement for block in blocks.values() for statement in block.find_insts(ir.Assign)]
    times = Counter(one.target.name for one in assigned)
    originals = {
        one.target.name: one.value
        for one in assigned
        if isinstance(one.value, ir.Var) and times[one.target.name] == times[one.value.name] == 1
    }
    for name, original in originals.items():
        while original.name in originals:
            original = originals[original.name]
        originals[name] = original
    _drop(blocks, set(originals))
    replace_vars(blocks, originals)


def _forget_names(blocks: Blocks) -> None:
    """Names of fields that are only read: each would be a string of the machine code that nobody looks at."""
    statements = [statement for block in blocks.values() for statement in block.body]
    names = set()
    for statement in statements:
        if _is_expression(statement, "static_getitem") and isinstance(statement.value.index, str):
            names.add(statement.value.index_var.name)
            statement.value.index_var = None
    _drop(blocks, names - {one.index_var.name for one in statements if isinstance(one, ir.StaticSetItem)})


def _drop(blocks: Blocks, names: set[str]) -> None:
    """What nobody uses any more, and where variables end: that is found anew."""
    for block in blocks.values():
        block.body = [
            one
            for one in block.body
            if not isinstance(one, ir.Del) and not (isinstance(one, ir.Assign) and one.target.name in names)
        ]
