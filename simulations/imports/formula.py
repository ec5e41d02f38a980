"""The part of expr-lang that ScaledObjects' `scalingModifiers.formula` is written in.

Numbers, triggers by name, `let name = …;`, `a ? b : c`, `??`, `||`, `&&`, `!`, comparisons, + - * / %, and the
functions max, min, ceil, floor, round, abs, int and float. KEDA (`pkg/scaling/modifiers`) hands a trigger's raw value
to it, nil where the trigger has none.
"""

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence

from .errors import FormulaError

FORMULA_MAX_CHARACTERS = 10_000
DEPTH_MAX = 50

Number = float | bool | None  # nil
Term = Callable[[Mapping[str, Number]], Number]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_]\w*)|(?P<mark>\?\?|\|\||&&|[<>=!]=|[-+*/%()<>?:;,!=]))"
)
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "max": max,
    "min": min,
    "ceil": math.ceil,
    "floor": math.floor,
    "round": round,
    "abs": abs,
    "int": math.trunc,
    "float": float,
}
_ONE_ARGUMENT = frozenset(_FUNCTIONS) - {"max", "min"}
# From the loosest to the tightest; ternary, ??, or and and stand above them.
_LEVELS: tuple[dict[str, Callable[[float, float], float | bool]], ...] = (
    {
        "==": operator.eq,
        "!=": operator.ne,
        "<=": operator.le,
        ">=": operator.ge,
        "<": operator.lt,
        ">": operator.gt,
    },
    {"+": operator.add, "-": operator.sub},
    {"*": operator.mul, "/": operator.truediv, "%": math.fmod},
)


def parse_formula(text: str, triggers: Sequence[str]) -> Term:
    """FormulaError says which part is not understood. The term gives None where it has no number."""
    if len(text) > FORMULA_MAX_CHARACTERS:
        raise FormulaError(f"a formula of {len(text)} characters; at most {FORMULA_MAX_CHARACTERS} are read")
    parser = _Parser(_tokens(text), set(triggers))
    term = parser.program()
    if parser.peek():
        raise FormulaError(f"{parser.peek()!r} is not expected there")
    return term


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise FormulaError(f"{text[at:].strip()[:20]!r} is not understood")
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


class _Parser:
    """Recursive descent, by levels of binding."""

    def __init__(self, tokens: Sequence[str], names: set[str]) -> None:
        self._tokens, self._names, self._at, self._depth = tokens, names, 0, 0

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise FormulaError(f"{expected or 'more'!r} is expected where {token or 'the end'!r} is")
        self._at += 1
        return token

    def program(self) -> Term:
        """`let`s, then what it gives."""
        if self.peek() != "let":
            return self._choice()
        self.take()
        name = self.take()
        self.take("=")
        value = self._choice()
        self.take(";")
        self._names.add(name)
        rest = self.program()
        return lambda known: rest({**known, name: value(known)})

    def _choice(self) -> Term:
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise FormulaError(f"more than {DEPTH_MAX} parentheses inside each other")
        condition = self._default()
        if self.peek() == "?":
            self.take()
            yes = self._choice()
            self.take(":")
            no = self._choice()
            term = _chosen(condition, yes, no)
        else:
            term = condition
        self._depth -= 1
        return term

    def _default(self) -> Term:
        first = self._either()
        if self.peek() != "??":
            return first
        self.take()
        other = self._default()
        return lambda known: other(known) if (value := first(known)) is None else value

    def _either(self) -> Term:
        term = self._both()
        while self.peek() in ("||", "or"):
            self.take()
            term = _until(True, term, self._both())
        return term

    def _both(self) -> Term:
        term = self._level(0)
        while self.peek() in ("&&", "and"):
            self.take()
            term = _until(False, term, self._level(0))
        return term

    def _level(self, level: int) -> Term:
        if level == len(_LEVELS):
            return self._unary()
        term = self._level(level + 1)
        while self.peek() in _LEVELS[level]:
            term = _combined(_LEVELS[level][self.take()], term, self._level(level + 1))
        return term

    def _unary(self) -> Term:
        token = self.take()
        if token in ("-", "!", "not"):
            term = self._unary()
            if token == "-":
                return _combined(operator.sub, lambda _known: 0.0, term)
            return lambda known: not term(known)
        if token == "(":
            term = self._choice()
            self.take(")")
            return term
        if token[0].isdigit():
            return _constant(token)
        if token == "nil":
            return lambda _known: None
        if self.peek() == "(":
            return self._call(token)
        if token not in self._names:
            raise FormulaError(f"{token!r} is no trigger's name; these are: {', '.join(sorted(self._names))}")
        return lambda known: known.get(token)

    def _call(self, name: str) -> Term:
        if name not in _FUNCTIONS:
            raise FormulaError(f"function {name!r} is not supported; these are: {', '.join(_FUNCTIONS)}")
        self.take("(")
        terms = [self._choice()]
        while self.peek() == ",":
            self.take()
            terms.append(self._choice())
        self.take(")")
        if name in _ONE_ARGUMENT and len(terms) != 1:
            raise FormulaError(f"{name} takes one argument, got {len(terms)}")
        return _applied(_FUNCTIONS[name], terms)


def _constant(token: str) -> Term:
    number = float(token)
    if not math.isfinite(number):
        raise FormulaError(f"{token} is more than a metric can be")
    return lambda _known: number


def _chosen(condition: Term, yes: Term, no: Term) -> Term:
    def value(known: Mapping[str, Number]) -> Number:
        found = condition(known)
        return None if found is None else (yes if found else no)(known)

    return value


def _until(decisive: bool, left: Term, right: Term) -> Term:
    """`or` ends with the first that is true, `and` with the first that is not."""

    def value(known: Mapping[str, Number]) -> Number:
        found = left(known)
        if found is None or bool(found) is decisive:
            return found
        return right(known)

    return value


def _applied(function: Callable[..., float], terms: Sequence[Term]) -> Term:
    def value(known: Mapping[str, Number]) -> Number:
        numbers = [term(known) for term in terms]
        if any(number is None for number in numbers):
            return None
        return function(*numbers) if len(numbers) > 1 or function not in (max, min) else numbers[0]

    return value


def _combined(apply: Callable[[float, float], float | bool], left: Term, right: Term) -> Term:
    def value(known: Mapping[str, Number]) -> Number:
        one, other = left(known), right(known)
        if one is None or other is None:
            return None
        try:
            found = apply(one, other)
        except (ZeroDivisionError, ValueError):
            return None
        return found if math.isfinite(found) else None  # NaN and infinity are no metric

    return value
