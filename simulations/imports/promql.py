"""The part of PromQL that scales vLLM, as a number of the simulated service.

Understood: the gauges, counters and histograms of the catalog; sum, avg, max, min and count with `by (le)`,
`by (…)` or nothing; rate, irate and increase of counters; histogram_quantile over a rate; ceil, floor, scalar, vector;
+ - * / between numbers and sums; `… or vector(N)`. Label matchers choose pods of one service, which is all there is
here: they are read over. All ranges of one object are taken to be its longest.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from autoscaler.policy.types import Observation
from metrics.quantile import merge, quantile
from simulations.policies.base import samples
from simulations.policies.hpa import Reading, Total
from simulations.policies.series import Latencies

from .errors import QueryError
from .metrics import KNOWN

QUERY_MAX_CHARACTERS = 10_000  # longer than any that a person wrote
DEPTH_MAX = 50
RANGE_MAX_S = 3600.0  # every page of a range is kept; who looks further back than an hour does not see load

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+\.?\d*(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z_:][A-Za-z0-9_:]*)"
    r"|(?P<labels>\{(?:[^}\"']|\"[^\"]*\"|'[^']*')*\})|(?P<range>\[[0-9a-z:]+\])|(?P<mark>[-+*/(),]))"
)
_AGGREGATIONS = ("sum", "avg", "max", "min", "count")
_RATES = ("rate", "irate", "increase")
_ROUNDINGS: dict[str, Callable[[float], float]] = {"ceil": math.ceil, "floor": math.floor}
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


@dataclass(frozen=True, slots=True)
class PerPod:
    """A series for each pod."""

    read: Reading


@dataclass(frozen=True, slots=True)
class PerBucket:
    """Rates of buckets, of each pod or of all."""

    read: Latencies


@dataclass(frozen=True, slots=True)
class One:
    """One number, or none."""

    total: Total


Value = PerPod | PerBucket | One


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query that gives one number."""

    total: Total
    ranges_s: frozenset[float]  # of its rates
    reads_buckets: bool  # of histograms


def parse_query(text: str) -> Query:
    """QueryError says which part is not understood."""
    if len(text) > QUERY_MAX_CHARACTERS:
        raise QueryError(f"a query of {len(text)} characters; at most {QUERY_MAX_CHARACTERS} are read")
    parser = _Parser(_tokens(text))
    value = parser.sum()
    if parser.peek():
        raise QueryError(f"{parser.peek()!r} is not expected there")
    if not isinstance(value, One):
        raise QueryError("it gives a series for each pod; KEDA and the HPA need one number: put sum(…) around it")
    return Query(total=value.total, ranges_s=frozenset(parser.ranges_s), reads_buckets=parser.reads_buckets)


def _tokens(text: str) -> list[str]:
    text = re.sub(r"#[^\n]*", "", text)
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise QueryError(f"{text[at:].strip()[:20]!r} is not understood")
        tokens.append(found[0].strip())
        at = found.end()
    return tokens


class _Parser:
    """Recursive descent: sum > product > unary > call or selector."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0
        self.ranges_s: set[float] = set()
        self.reads_buckets = False

    def peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise QueryError(f"{expected or 'more'!r} is expected where {token or 'the end'!r} is")
        self._at += 1
        return token

    def sum(self) -> Value:
        """The whole grammar; `or vector(N)` binds last."""
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise QueryError(f"more than {DEPTH_MAX} parentheses inside each other")
        value = self._product()
        while self.peek() in ("+", "-"):
            value = _combined(self.take(), value, self._product())
        while self.peek() == "or":
            self.take()
            value = _filled(value, self._product())
        self._depth -= 1
        return value

    def _product(self) -> Value:
        value = self._unary()
        while self.peek() in ("*", "/"):
            value = _combined(self.take(), value, self._unary())
        return value

    def _unary(self) -> Value:
        if self.peek() == "-":
            self.take()
            return _combined("-", _constant(0.0), self._unary())
        if self.peek() == "(":
            self.take()
            value = self.sum()
            self.take(")")
            return value
        token = self.take()
        if token[0].isdigit():
            return _constant(_number(token))
        if token in _AGGREGATIONS:
            return self._aggregation(token)
        if self.peek() == "(":
            return self._call(token)
        return self._selector(token)

    def _aggregation(self, name: str) -> Value:
        self._grouping()
        self.take("(")
        value = self.sum()
        self.take(")")
        self._grouping()
        return _aggregated(name, value)

    def _grouping(self) -> None:
        """`by (…)`: all pods are of one service, so that labels of pods would split what is one; `le` does not."""
        if self.peek() not in ("by", "without"):
            return
        word = self.take()
        self.take("(")
        labels = []
        while self.peek() != ")":
            labels.append(self.take())
        self.take(")")
        split = [label for label in labels if label in ("pod", "instance", "endpoint_name")]
        if word == "by" and split:
            raise QueryError(f"by ({split[0]}) gives a series for each pod; one number is needed")

    def _call(self, name: str) -> Value:
        self.take("(")
        if name == "histogram_quantile":
            return self._quantile()
        if name in _RATES:
            value = self._rate(name)
        elif name in ("scalar", "vector", *_ROUNDINGS):
            value = self.sum()
            value = _rounded(value, _ROUNDINGS[name]) if name in _ROUNDINGS else value
        else:
            known = ", ".join((*_AGGREGATIONS, *_RATES, "histogram_quantile", "scalar", "vector", *_ROUNDINGS))
            raise QueryError(f"function {name!r} is not supported; these are: {known}")
        self.take(")")
        return value

    def _rate(self, function: str) -> Value:
        name = self.take()
        if self.peek().startswith("{"):
            self.take()
        span = self.take()
        if not span.startswith("["):
            raise QueryError(f"{function}({name}…) needs a range such as [1m], got {span!r}")
        range_s = _seconds(span)
        self.ranges_s.add(range_s)
        if name in KNOWN.buckets:
            self.reads_buckets = True
            return PerBucket(KNOWN.buckets[name])
        if name not in KNOWN.rates:
            raise _unknown(name)
        factor = range_s if function == "increase" else 1.0
        return PerPod(_scaled(KNOWN.rates[name], factor))

    def _quantile(self) -> Value:
        share = _number(self.take())
        if not 0 <= share <= 1:
            raise QueryError(f"histogram_quantile({share:g}, …): a quantile is between 0 and 1")
        self.take(",")
        value = self.sum()
        self.take(")")
        if not isinstance(value, PerBucket):
            raise QueryError("histogram_quantile needs sum by (le) (rate(…_bucket[…]))")
        buckets = value.read

        def total(seen: Observation, now_s: float) -> float | None:
            del now_s
            merged = merge(found for sample in samples(seen) if (found := buckets(sample)) is not None)
            return None if merged is None else quantile(merged, share)

        return One(total)

    def _selector(self, name: str) -> Value:
        if self.peek().startswith("{"):
            self.take()
        if name in KNOWN.totals:
            return One(KNOWN.totals[name])
        if name in KNOWN.gauges:
            return PerPod(KNOWN.gauges[name])
        if name in KNOWN.rates:
            raise QueryError(f"{name} is a counter: put rate(…[1m]) around it")
        raise _unknown(name)


def _number(token: str) -> float:
    try:
        number = float(token)
    except ValueError as exc:
        raise QueryError(f"a number is expected where {token!r} is") from exc
    if not math.isfinite(number):
        raise QueryError(f"{token} is more than a metric can be")
    return number


def _unknown(name: str) -> QueryError:
    return QueryError(f"metric {name!r} is not simulated; these are: {KNOWN.names()}")


def _seconds(span: str) -> float:
    parts = re.findall(r"(\d+)([smhd])", span)
    if not parts or "".join(number + unit for number, unit in parts) != span.strip("[]"):
        raise QueryError(f"{span!r} is no range such as [1m]")
    range_s = sum(float(number) * _UNITS_S[unit] for number, unit in parts)
    if not 0 < range_s <= RANGE_MAX_S:
        raise QueryError(f"a range of {span}; up to {RANGE_MAX_S / 3600:g} h are simulated")
    return range_s


def _constant(number: float) -> One:
    return One(lambda _seen, _now_s: number)


def _scaled(read: Reading, factor: float) -> Reading:
    return lambda sample: None if (value := read(sample)) is None else value * factor


def _rounded(value: Value, rounding: Callable[[float], float]) -> Value:
    if not isinstance(value, One):
        raise QueryError("ceil and floor are supported of one number only")
    total = value.total
    return One(lambda seen, now_s: None if (found := total(seen, now_s)) is None else rounding(found))


def _aggregated(name: str, value: Value) -> Value:
    if isinstance(value, One):
        return _constant(1.0) if name == "count" else value
    if isinstance(value, PerBucket):
        if name != "sum":
            raise QueryError(f"{name} of a histogram's buckets says nothing; sum by (le) does")
        return value
    read = value.read

    def total(seen: Observation, now_s: float) -> float | None:
        del now_s
        known = [found for sample in samples(seen) if (found := read(sample)) is not None]
        if not known:
            return None
        numbers = {"sum": sum(known), "max": max(known), "min": min(known), "count": float(len(known))}
        return numbers.get(name, sum(known) / len(known))

    return One(total)


def _filled(value: Value, other: Value) -> Value:
    """`… or …`: the other where there is none."""
    if not isinstance(value, One) or not isinstance(other, One):
        raise QueryError("`or` is supported between single numbers only, such as sum(…) or vector(0)")
    first, second = value.total, other.total

    def total(seen: Observation, now_s: float) -> float | None:
        found = first(seen, now_s)
        return second(seen, now_s) if found is None else found

    return One(total)


def _combined(mark: str, left: Value, right: Value) -> Value:
    if isinstance(left, PerPod) and isinstance(right, PerPod):
        one, other = left.read, right.read
        return PerPod(lambda sample: _calculated(mark, one(sample), other(sample)))
    if not isinstance(left, One) or not isinstance(right, One):
        raise QueryError(f"{mark!r} between a series per pod and one number is not supported; sum(…) first")
    first, second = left.total, right.total
    return One(lambda seen, now_s: _calculated(mark, first(seen, now_s), second(seen, now_s)))


def _calculated(mark: str, left: float | None, right: float | None) -> float | None:
    if left is None or right is None:
        return None
    if mark == "/" and not right:
        return None
    value = {"+": left + right, "-": left - right, "*": left * right}[mark] if mark != "/" else left / right
    return value if math.isfinite(value) else None  # KEDA and the HPA take neither NaN nor infinity
