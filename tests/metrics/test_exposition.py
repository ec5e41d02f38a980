"""The parser against the formats' words and against prometheus_client's own parsers."""

import contextlib
import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import openmetrics
from prometheus_client.openmetrics import parser as open_parser
from prometheus_client.parser import text_string_to_metric_families

from metrics.errors import ExpositionError
from metrics.exposition import LINE_BYTES_MAX, PAGE_BYTES_MAX, Exemplar, Family, Series, parse
from metrics.pages import vllm_page

assert openmetrics  # imported for its parser

Flat = list[tuple[str, tuple[tuple[str, str], ...], str, float | None]]


def flat(families: Iterable[Family]) -> Flat:
    """Every series in comparable form; repr, since NaN is not equal to itself."""
    rows = [
        (one.name, tuple(sorted(one.labels)), repr(one.value), one.timestamp_s)
        for family in families
        for one in family.series
    ]
    return sorted(rows, key=repr)


def their_flat(text: str) -> Flat:
    """What prometheus_client reads, without the `_total` it adds to samples of counters that lack it."""
    rows: Flat = []
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name
            if family.type == "counter" and f"\n{name}" not in f"\n{text}":
                name = name.removesuffix("_total")
            rows.append((name, tuple(sorted(sample.labels.items())), repr(float(sample.value)), sample.timestamp))
    return sorted(rows, key=repr)


# --- generated pages -------------------------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z_:][a-z0-9_:]{0,8}", fullmatch=True)
LABEL_NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,4}", fullmatch=True)  # prometheus_client refuses a leading "__"
# whatever a label may hold, line feeds, quotes, backslashes, braces, commas and hashes among it
LABEL_VALUES = st.text(
    st.one_of(st.sampled_from('\\"\n{},=# n'), st.characters(exclude_categories=["Cs"], exclude_characters="\r")),
    max_size=8,
)
# not "-0": prometheus_client reads it as the integer 0 and loses the sign
NUMBERS = st.one_of(
    st.floats(width=32).map(repr),
    st.integers(-(10**12), 10**12).map(str),
    st.sampled_from(["NaN", "+Inf", "-Inf", "Inf", "0", "1e3", "1E-3", "1.", ".5", "+7"]),
)
BLANKS = st.sampled_from(["", " ", "  ", "\t", " \t"])
GAPS = st.sampled_from([" ", "  ", "\t"])
KINDS = st.sampled_from(["counter", "gauge", "untyped"])
HELPS = st.text(st.characters(exclude_categories=["Cs", "Zs", "Zl", "Zp", "Cc"]), min_size=1, max_size=10)


def escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


@st.composite
def label_sets(draw: st.DrawFn, blanks: st.SearchStrategy[str] = BLANKS) -> str:
    labels = draw(st.dictionaries(LABEL_NAMES, LABEL_VALUES, max_size=3))
    if not labels:
        return draw(st.sampled_from(["", "{}"]))
    items = [
        f'{draw(blanks)}{name}{draw(blanks)}={draw(blanks)}"{escaped(v)}"{draw(blanks)}' for name, v in labels.items()
    ]
    return "{" + ",".join(items) + "}"


@st.composite
def text_pages(draw: st.DrawFn) -> str:
    """A page of text format 0.0.4, as free in its blanks as the format allows."""
    lines = []
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        if draw(st.booleans()):
            lines.append(f"# HELP {name} {draw(HELPS)}")
        if draw(st.booleans()):
            lines.append(f"# TYPE {name} {draw(KINDS)}")
        for _ in range(draw(st.integers(0, 3))):
            timestamp = draw(st.one_of(st.just(""), st.integers(-(10**15), 10**15).map(lambda at: f" {at}")))
            labels, number = draw(label_sets()), draw(NUMBERS)
            lines.append(f"{draw(BLANKS)}{name}{labels}{draw(GAPS)}{number}{timestamp}{draw(BLANKS)}")
        lines.extend(draw(st.lists(st.sampled_from(["", "  ", "# a comment", "#", "\t"]), max_size=2)))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    return "".join(line + end for line in lines)


@given(text_pages())
def test_a_text_page_reads_as_prometheus_client_reads_it_as_bytes_too(page: str) -> None:
    assert flat(parse(page)) == flat(parse(page.encode())) == their_flat(page)


@given(text_pages())
def test_types_and_helps_are_those_that_prometheus_client_finds(page: str) -> None:
    theirs = {family.name: family for family in text_string_to_metric_families(page)}

    for family in parse(page):
        name = family.name.removesuffix("_total") if family.kind == "counter" else family.name
        other = theirs.get(name)
        if other is not None and family.kind not in ("untyped",):
            assert (other.type, other.documentation) == (family.kind, family.help)


EXEMPLARS = ["", ' # {trace="a b#c"} 1', ' # {trace="}"} 0.5 1520879607.5', " # {} 2"]


@st.composite
def open_pages(draw: st.DrawFn) -> str:
    """A page of OpenMetrics 1.0: counters with exemplars, gauges with timestamps."""
    lines = []
    names = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
    for name in draw(st.lists(names, max_size=3, unique=True)):
        is_counter = draw(st.booleans())
        lines.append(f"# TYPE {name} {'counter' if is_counter else 'gauge'}")
        labels = draw(label_sets(blanks=st.just("")))
        timestamp = draw(st.sampled_from(["", " 1", " 1.5", " 1520879607.789"]))
        if is_counter:
            exemplar = draw(st.sampled_from(["", ' # {trace="a b#c"} 1', ' # {trace="}"} 0.5 1520879607.5', " # {} 2"]))
            lines.append(f"{name}_total{labels} {draw(st.integers(0, 10**9))}{timestamp}{exemplar}")
        else:
            lines.append(f"{name}{labels} {draw(NUMBERS)}{timestamp}")
    return "".join(line + "\n" for line in [*lines, "# EOF"])


@given(open_pages())
def test_an_openmetrics_page_reads_as_prometheus_client_reads_it(page: str) -> None:
    theirs = [sample for family in open_parser.text_string_to_metric_families(page) for sample in family.samples]
    ours = [one for family in parse(page, openmetrics=True) for one in family.series]

    for sample, one in zip(theirs, ours, strict=True):
        assert (sample.name, sample.labels, repr(float(sample.value))) == (one.name, dict(one.labels), repr(one.value))
        assert (None if sample.timestamp is None else float(sample.timestamp)) == one.timestamp_s
        assert (sample.exemplar is None) == (one.exemplar is None)
        if sample.exemplar is not None and one.exemplar is not None:
            assert sample.exemplar.labels == dict(one.exemplar.labels)
            assert sample.exemplar.value == one.exemplar.value


def test_a_real_page_reads_as_prometheus_client_reads_it(real_page: bytes) -> None:
    assert flat(parse(real_page)) == their_flat(real_page.decode())


def test_a_generated_vllm_page_reads_as_prometheus_client_reads_it() -> None:
    page = vllm_page(engines=2)

    assert flat(parse(page)) == their_flat(page.decode())


# --- a total function ------------------------------------------------------------------------------------------------


@given(st.one_of(st.binary(max_size=200), text_pages().map(str.encode)), st.booleans(), st.data())
def test_no_bytes_make_it_raise_anything_but_its_own_error(page: bytes, openmetrics: bool, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(page)))
    garbled = page[:cut] + data.draw(st.binary(max_size=3)) + page[cut:] + b"\n"

    with contextlib.suppress(ExpositionError):
        parse(garbled, openmetrics=openmetrics)


# --- the formats' words ----------------------------------------------------------------------------------------------


def only(page: str, *, openmetrics: bool = False) -> Series:
    ((series,),) = (family.series for family in parse(page, openmetrics=openmetrics))
    return series


@pytest.mark.parametrize(
    ("line", "labels"),
    [
        pytest.param('x{a="1"} 2', {"a": "1"}, id="plain"),
        pytest.param('x { a = "1" , b="2" , } 2', {"a": "1", "b": "2"}, id="blanks and a trailing comma"),
        pytest.param(r'x{a="\\\"\n"} 2', {"a": '\\"\n'}, id="escapes"),
        pytest.param(r'x{a="\d"} 2', {"a": r"\d"}, id="a backslash before another letter stays"),
        pytest.param('x{a="} 5"} 2', {"a": "} 5"}, id="a brace within quotes"),
        pytest.param('x{a=""} 2', {"a": ""}, id="empty value"),
        pytest.param("x{} 2", {}, id="empty set"),
        pytest.param("x{ } 2", {}, id="blank set"),
        pytest.param("x\t2\r", {}, id="tab and CR"),
        pytest.param('x{a="\u2028"} 2', {"a": "\u2028"}, id="a line separator is no line end"),
    ],
)
def test_label_sets_of_the_text_format(line: str, labels: dict[str, str]) -> None:
    series = only(line + "\n")

    assert (series.name, dict(series.labels), series.value) == ("x", labels, 2.0)


@pytest.mark.parametrize(
    ("text", "value"),
    [("NaN", math.nan), ("+Inf", math.inf), ("-Inf", -math.inf), ("1e3", 1000.0), ("-0", -0.0), ("1e400", math.inf)],
)
def test_values_are_kept_as_they_stand(text: str, value: float) -> None:
    assert repr(only(f"x {text}\n").value) == repr(value)


def test_a_timestamp_is_milliseconds_in_text_and_seconds_in_openmetrics() -> None:
    assert only("x 1 1500\n").timestamp_s == 1.5
    assert only("x 1 1500\n# EOF\n", openmetrics=True).timestamp_s == 1500.0


def test_an_exemplar_is_read_in_openmetrics_and_refused_in_text() -> None:
    line = 'x_bucket{le="1"} 2 # {trace="a"} 0.5 7.5\n'

    assert only(line + "# EOF\n", openmetrics=True).exemplar == Exemplar((("trace", "a"),), 0.5, 7.5)
    with pytest.raises(ExpositionError):
        parse(line)


def test_repeated_series_are_all_kept() -> None:
    (family,) = parse("x 1\nx 2\n")

    assert [series.value for series in family.series] == [1.0, 2.0]


def test_samples_of_a_histogram_belong_to_it_and_others_stand_alone() -> None:
    page = '# HELP h Some\\nhelp\n# TYPE h histogram\nh_bucket{le="+Inf"} 1\nh_sum 2\nh_count 1\nh_created 5\n'

    histogram, created = parse(page)

    assert (histogram.name, histogram.kind, histogram.help) == ("h", "histogram", "Some\nhelp")
    assert [series.name for series in histogram.series] == ["h_bucket", "h_sum", "h_count"]
    assert (created.name, created.kind) == ("h_created", "untyped")


def test_openmetrics_units_are_read() -> None:
    (family,) = parse("# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n# EOF\n", openmetrics=True)

    assert (family.kind, family.unit) == ("gauge", "seconds")


@pytest.mark.parametrize(
    ("page", "line", "what"),
    [
        pytest.param("x 1\ny", 2, "cut", id="no line feed at the end"),
        pytest.param("x\n", 1, "not a sample", id="no value"),
        pytest.param("x one\n", 1, "no number", id="value is a word"),
        pytest.param("x 1_000\n", 1, "no number", id="underscore in a number"),
        pytest.param("x ١\n", 1, "no number", id="digits of another script"),
        pytest.param("x 0x10\n", 1, "no number", id="hexadecimal"),
        pytest.param("x 1 2 3\n", 1, "not a sample", id="two timestamps"),
        pytest.param("x 1 1.5\n", 1, "not a sample", id="fractional milliseconds"),
        pytest.param("1x 1\n", 1, "not a sample", id="name starts with a digit"),
        pytest.param('x{a="1" 1\n', 1, "not a sample", id="open label set"),
        pytest.param('x{a="1} 1\n', 1, "not a sample", id="open quote"),
        pytest.param('x{a="1",a="2"} 1\n', 1, "twice", id="label twice"),
        pytest.param('x{,a="1"} 1\n', 1, "bad label set", id="leading comma"),
        pytest.param('x{a="1" b="2"} 1\n', 1, "bad label set", id="no comma"),
        pytest.param('x{"a.b"="1"} 1\n', 1, "bad label set", id="quoted label name"),
        pytest.param("ok 1\n# TYPE x counts\n", 2, "does not exist", id="unknown type"),
        pytest.param("# TYPE x gauge\n# TYPE x gauge\n", 2, "second TYPE", id="type twice"),
        pytest.param("x 1\n# TYPE x gauge\n", 2, "after its samples", id="type after a sample"),
        pytest.param("# TYPE 1x gauge\n", 1, "no valid name", id="bad name in TYPE"),
    ],
)
def test_what_breaks_the_text_format_is_refused_with_its_line(page: str, line: int, what: str) -> None:
    with pytest.raises(ExpositionError, match=what) as caught:
        parse(page)

    assert caught.value.line == line


@pytest.mark.parametrize(
    "page",
    [
        pytest.param("x 1\n", id="no EOF"),
        pytest.param("# EOF\nx 1\n", id="text after EOF"),
        pytest.param("\n# EOF\n", id="blank line"),
        pytest.param("x  1\n# EOF\n", id="two blanks"),
        pytest.param("x 1\r\n# EOF\r\n", id="CRLF"),
        pytest.param("# a comment\n# EOF\n", id="comment"),
        pytest.param('x{a="1",} 1\n# EOF\n', id="trailing comma"),
        pytest.param("x 1 NaN\n# EOF\n", id="timestamp NaN"),
        pytest.param("x 1 # {}\n# EOF\n", id="exemplar without a value"),
        pytest.param("# TYPE x untyped\n# EOF\n", id="a type of the old format"),
    ],
)
def test_what_breaks_openmetrics_is_refused(page: str) -> None:
    with pytest.raises(ExpositionError):
        parse(page, openmetrics=True)


def test_bytes_that_are_no_utf_8_are_refused_with_their_line() -> None:
    with pytest.raises(ExpositionError, match="UTF-8") as caught:
        parse(b'x 1\ny{a="\xff"} 1\n')

    assert caught.value.line == 2


# --- limits ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("extra", "is_taken"), [(-1, True), (0, True), (1, False)], ids=["under", "at", "over"])
def test_a_page_beyond_its_limit_is_refused(extra: int, is_taken: bool) -> None:
    page = (b"#" * 99 + b"\n") * (PAGE_BYTES_MAX // 100)
    page = page[: PAGE_BYTES_MAX + extra] if extra <= 0 else page + b"\n"
    page = page[:-1] + b"\n"

    if is_taken:
        assert parse(page) == []
    else:
        with pytest.raises(ExpositionError, match="5000001 bytes"):
            parse(page)


@pytest.mark.parametrize(("extra", "is_taken"), [(-1, True), (0, True), (1, False)], ids=["under", "at", "over"])
def test_a_line_beyond_its_limit_is_refused(extra: int, is_taken: bool) -> None:
    page = b"x 1\n#" + b"a" * (LINE_BYTES_MAX - 1 + extra) + b"\ny 2\n"

    if is_taken:
        assert len(parse(page)) == 2
    else:
        with pytest.raises(ExpositionError, match="1000001 bytes") as caught:
            parse(page)
        assert caught.value.line == 2
