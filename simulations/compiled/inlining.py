"""What a kernel calls, inlined from the outside in, without what a world does not have: numba's IR before types.

Numba's own pass inlines what a function calls before it inlines that function, and copies all of it again at each
level, every block with the names of all blocks; and each argument is a variable more, which for a `World` is a hundred
numbers to move. Here a function is translated where it is called, what it calls is inlined where it came to stand, and
arguments keep the names that they have outside.

Where a branch asks for the length of a part of the world that is an empty tuple (`layout.without_parts`), what needs
that part is not even looked at: a kernel of most worlds is compiled in half of the time.
"""

# What numba is made of has no types.
# mypy: disable-error-code="no-untyped-call"

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from types import FunctionType
from typing import Any

from numba import njit
from numba.core import ir, types
from numba.core.analysis import compute_cfg_from_blocks
from numba.core.bytecode import ByteCode, FunctionIdentity
from numba.core.inline_closurecall import _replace_args_with, _replace_returns
from numba.core.interpreter import Interpreter
from numba.core.ir_utils import (
    add_offset_to_labels,
    build_definitions,
    get_definition,
    guard,
    replace_vars,
    simplify_CFG,
)
from numba.core.rewrites.static_getitem import RewriteConstGetitems, RewriteConstSetitems
from numba.core.transforms import canonicalize_cfg
from numba.core.typing.templates import fold_arguments

Blocks = dict[int, Any]
Function = Callable[..., Any]


@njit(inline="always")
def _lesser(first: Any, second: Any) -> Any:
    return second if second < first else first


@njit(inline="always")
def _greater(first: Any, second: Any) -> Any:
    return second if second > first else first


# Of these numba would compile a function of its own for each pair of types.
PLAIN: dict[Function, Any] = {min: _lesser, max: _greater, int: types.int64}


def translated(function: Function) -> Any:
    """A function as it was written, as IR."""
    identity = FunctionIdentity.from_function(function)
    found = Interpreter(identity).interpret(ByteCode(func_id=identity))
    for block in found.blocks.values():
        for statement in block.find_insts(ir.Assign):
            named = statement.value
            if isinstance(named, ir.Global) and callable(named.value):
                named.value = PLAIN.get(named.value, named.value)
    return found


def inline_all(whole: Any, args: Sequence[Any]) -> None:
    """Go from block to block, and only where a function with such arguments can come to."""
    blocks, numbers = whole.blocks, count()
    first = min(blocks)
    todo, seen = [first], {first}
    while todo:
        block = blocks[todo.pop()]
        _inline_first(whole, block, numbers)
        _pass_by_missing(whole, block, args)
        reached = set(block.terminator.get_targets()) - seen
        todo += reached
        seen |= reached
    for dead in compute_cfg_from_blocks(blocks).dead_nodes():
        del blocks[dead]


def tidy(function: Any) -> None:
    """Indices that are constants become so; what only was a name for something else is left out."""
    for kind in (RewriteConstGetitems, RewriteConstSetitems):
        for label, block in list(function.blocks.items()):
            rewrite = kind()
            if rewrite.match(function, block, None, None):
                function.blocks[label] = rewrite.apply()
    function.blocks = canonicalize_cfg(function.blocks)  # loops that come back from one place are faster
    _forward_copies(function.blocks)
    for block in function.blocks.values():
        _forget_names(block)
        _branch_at_once(function, block)
    _drop_unused(function.blocks)
    function.blocks = simplify_CFG(function.blocks)
    function._definitions = build_definitions(function.blocks)


def _inline_first(whole: Any, block: Any, numbers: "count[int]") -> None:
    """The first call of a block that is to be inlined; what comes after it becomes a block that follows."""
    for place, statement in enumerate(block.body):
        if _is_expression(statement, "call"):
            function = _to_inline(whole, statement.value)
            if function is not None:
                _inline(whole, block, place, translated(function), next(numbers))
                return


def _to_inline(whole: Any, call: Any) -> Function | None:
    called = guard(get_definition, whole, call.func)
    if _makes_function(called):  # it is defined where it is called
        return FunctionType(called.code, whole.func_id.func.__globals__)
    options = getattr(called.value, "targetoptions", {}) if isinstance(called, ir.Global) else {}
    return called.value.py_func if options.get("inline") == "always" else None


def _makes_function(value: Any) -> bool:
    return isinstance(value, ir.Expr) and value.op == "make_function" and value.closure is None


def _inline(whole: Any, block: Any, place: int, callee: Any, number: int) -> None:
    """The call at this place becomes the blocks of what it calls, each of whose names gets a number."""
    statement, blocks, scope = block.body[place], whole.blocks, block.scope
    inlined = add_offset_to_labels(callee.blocks, max(blocks) + 1)
    first, rest = min(inlined), max(inlined) + 1
    own = inlined[first].scope.localvars._con
    replace_vars(inlined, {name: scope.define(f"{name}.v{number}", var.loc) for name, var in own.items()})
    _replace_args_with(inlined, _given(callee, statement.value))
    _replace_returns(inlined, statement.target, rest)
    blocks[rest] = ir.Block(scope, block.loc)
    blocks[rest].body = block.body[place + 1 :]
    block.body[place:] = [ir.Jump(first, statement.loc)]
    whole._definitions[statement.target.name].remove(statement.value)
    for label, part in inlined.items():
        part.scope = scope
        blocks[label] = part
    for name, values in build_definitions(inlined).items():
        whole._definitions[name] += values


def _given(callee: Any, call: Any) -> Any:
    """What a call gives for each argument, by its place, by its name or by default."""

    def as_given(index: int, parameter: Any, given: Any) -> Any:
        return given

    def by_default(index: int, parameter: Any, default: Any) -> Any:
        return ir.Const(default, call.loc)

    return fold_arguments(callee.func_id.pysig, call.args, dict(call.kws), as_given, by_default, as_given)


def _is_expression(statement: Any, operation: str) -> bool:
    is_one = isinstance(statement, ir.Assign) and isinstance(statement.value, ir.Expr)
    return is_one and statement.value.op == operation


def _pass_by_missing(whole: Any, block: Any, args: Sequence[Any]) -> None:
    """Where a branch asks whether there is something in a part of an argument that is an empty tuple."""
    branch = block.terminator
    if isinstance(branch, ir.Branch):
        part = guard(_part_asked_for, whole, branch.cond)
        if part is not None and _is_missing(whole, part, args):
            block.body[-1] = ir.Jump(branch.falsebr, branch.loc)


def _part_asked_for(function: Any, condition: Any) -> Any:
    """`x` of a condition `bool(len(x))`, as it was defined; None of another one."""
    for outer in (bool, len):
        call = get_definition(function, condition)
        if not _calls(function, call, outer):
            return None
        condition = call.args[0]
    return get_definition(function, condition)


def _calls(function: Any, call: Any, what: Any) -> bool:
    called = get_definition(function, call.func) if isinstance(call, ir.Expr) and call.op == "call" else None
    return isinstance(called, ir.Global) and called.value is what


def _is_missing(function: Any, part: Any, args: Sequence[Any]) -> bool:
    """Whether it is the field of an argument, and the argument's type says that it is an empty tuple."""
    if not isinstance(part, ir.Expr) or part.op != "getattr":
        return False
    argument = guard(get_definition, function, part.value)
    whole = args[argument.index] if isinstance(argument, ir.Arg) else None
    return isinstance(whole, types.NamedTuple) and whole[whole.fields.index(part.attr)] == types.Tuple(())


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
    _drop(blocks, set(originals), (ir.Var,))
    replace_vars(blocks, originals)


def _forget_names(block: Any) -> None:
    """Names of fields: each would be a string of the machine code that nobody looks at."""
    for statement in block.body:
        if _is_expression(statement, "static_getitem") and isinstance(statement.value.index, str):
            statement.value.index_var = None
        elif isinstance(statement, ir.StaticSetItem) and isinstance(statement.index, str):
            statement.index_var = statement.target  # anything that has a type


def _branch_at_once(function: Any, block: Any) -> None:
    """Whether a condition holds is found out by the branch, without asking for its `bool` before."""
    branch, before = block.body[-1], block.body[-2:-1]
    if isinstance(branch, ir.Branch) and before and _is_expression(before[0], "call"):
        call = before[0].value
        if before[0].target.name == branch.cond.name and guard(_calls, function, call, bool):
            del block.body[-2]
            branch.cond = call.args[0]


def _drop_unused(blocks: Blocks) -> None:
    """Constants, and names of what was inlined, that stand nowhere but where they are assigned."""
    statements = [statement for block in blocks.values() for statement in block.body]
    times = Counter(var.name for statement in statements for var in statement.list_vars())
    names = {one.target.name for one in statements if isinstance(one, ir.Assign) and times[one.target.name] == 1}
    _drop(blocks, names, (ir.Global, ir.Const))


def _drop(blocks: Blocks, names: set[str], kinds: tuple[type, ...]) -> None:
    """What is assigned to these names, as far as it is of such a kind, or a function that was inlined."""
    for block in blocks.values():
        block.body = [
            one
            for one in block.body
            if not (isinstance(one, ir.Assign) and one.target.name in names)
            or not (isinstance(one.value, kinds) or _makes_function(one.value))
        ]
