"""How numba is to inline: from the outside in, without copies of what is passed on.

Numba's own pass inlines what a function calls before it inlines that function, and copies all of it again at each
level, every block with the names of all blocks; and each argument is a variable more, which for a `World` is a hundred
numbers to move. Here a function is copied as it was written, what it calls is inlined where it came to stand, and
arguments keep the names that they have outside. A kernel is compiled in two thirds of the time, and is the same.
"""

# What numba is made of has no types.
# mypy: disable-error-code="no-untyped-call"

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from numba.core import ir
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.inline_closurecall import InlineWorker, callee_ir_validator
from numba.core.ir_utils import build_definitions, guard, replace_vars, simplify_CFG
from numba.core.postproc import PostProcessor
from numba.core.untyped_passes import InlineInlinables


class OutsideIn(CompilerBase):
    """Numba's compiler with the pass below in the place of its own."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        return [_instead(passes, [_InlineOutsideIn])]


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


@register_pass(mutates_CFG=True, analysis_only=False)
class _InlineOutsideIn(InlineInlinables):
    _name = "inline_outside_in"

    def run_pass(self, state: Any) -> bool:
        worker, todo, is_changed = _Translated(state), list(state.func_ir.blocks.items()), False
        while todo:  # blocks of what is inlined join them
            _, block = todo.pop()
            is_changed |= any(
                guard(self._do_work, state, todo, block, place, call, worker) for place, call in _calls(block)
            )
        if is_changed:
            _tidy(state.func_ir)
        return is_changed


def _calls(block: Any) -> Iterator[tuple[int, Any]]:
    for place, statement in enumerate(block.body):
        if isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Expr) and statement.value.op == "call":
            yield place, statement.value


def _tidy(function: Any) -> None:
    for dead in compute_cfg_from_blocks(function.blocks).dead_nodes():
        del function.blocks[dead]
    _forward_copies(function.blocks)
    function._definitions = build_definitions(function.blocks)
    PostProcessor(function).run()
    function.blocks = simplify_CFG(function.blocks)


def _forward_copies(blocks: dict[int, Any]) -> None:
    """Use the original of what is assigned once and is a copy of what is assigned once."""
    statements = [statement for block in blocks.values() for statement in block.body]
    assigned = [statement for statement in statements if isinstance(statement, ir.Assign)]
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
    for block in blocks.values():  # when a variable ends is found anew
        block.body = [
            one
            for one in block.body
            if not isinstance(one, ir.Del) and not (isinstance(one, ir.Assign) and one.target.name in originals)
        ]
    replace_vars(blocks, originals)


def _as_written(state: Any, name: str = "as written") -> Any:
    return _instead(DefaultPassBuilder.define_untyped_pipeline(state, name), [])


def _instead(passes: Any, others: list[type]) -> Any:
    """The same passes with these in the place of numba's inlining."""
    found = ((others if one is InlineInlinables else [one], says) for one, says in passes.passes)
    passes.passes = [(one, says) for ones, says in found for one in ones]
    passes._finalized = False
    passes.finalize()
    return passes
