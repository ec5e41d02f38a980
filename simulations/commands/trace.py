"""`warmtide sim trace …`: what is in a trace, and the same traffic in another format, size or order."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np

from simulations.commands.counts import seed
from simulations.commands.files import check_file, write_file
from simulations.commands.screen import Screen, screen
from simulations.derive_figures import lengths_from
from simulations.errors import UsageError
from simulations.traces import FORMATS, Chunk, Drawing, Trace, open_trace
from simulations.traces.plot import bars, picture, svg
from simulations.traces.reshape import Scale, cut, overlaid, resampled, scaled, spliced
from simulations.traces.summary import Summary, Tally, TokenFigures, summarise
from simulations.traces.write import WRITERS, left_out, write_trace

INFINITE_S = float("inf")
CALLERS = """
A table may have the columns session_id and adapter besides, and a line of JSON the keys: whose conversation a request
is of, and which LoRA adapter it asks for. A scenario says whether they count: see warmtide sim scenarios --parts.
"""


def add(parser: argparse.ArgumentParser) -> None:
    """The words after `trace`."""
    words = parser.add_subparsers(dest="word", required=True)
    for name, (help_line, add_options, do) in WORDS.items():
        word = words.add_parser(name, help=help_line, description=f"{help_line[0].upper()}{help_line[1:]}.")
        add_options(word)
        word.set_defaults(do=do)


def run(options: argparse.Namespace) -> int:
    """The word that was said."""
    do: Callable[[argparse.Namespace], None] = options.do
    do(options)
    return 0


def formats(options: argparse.Namespace) -> None:
    """One line for each."""
    del options
    for one in FORMATS.values():
        drawn = " (requests are drawn)" if one.is_drawn else ""
        sys.stdout.write(
            f"{one.name:<14}{'reads and writes' if one.name in WRITERS else 'reads':<18}{one.says}{drawn}\n"
        )
    sys.stdout.write(CALLERS)


def inspect(options: argparse.Namespace) -> None:
    """Figures of the whole trace, or of what was read before an interrupt."""
    trace, tally = _trace(options, options.file), Tally()
    try:
        with screen(None, "reading") as on:
            summarise(_counted(trace.chunks(), on), tally)
    except KeyboardInterrupt:
        if tally.requests:
            _print_summary(options, trace, tally.summary())
            sys.stderr.write("warmtide sim: interrupted; what was read so far is above\n")
        raise
    _print_summary(options, trace, tally.summary())


def _print_summary(options: argparse.Namespace, trace: Trace, summary: Summary) -> None:
    if options.output == "json":
        sys.stdout.write(json.dumps({"format": trace.format.name, **asdict(summary)}, indent=2) + "\n")
        return
    for name, value in _told(trace, summary):
        sys.stdout.write(f"{name:<22}{value}\n")
    if not trace.format.has_lengths:
        other = "; others: --lengths" if options.lengths is None else ""
        sys.stdout.write(f"{'':<22}lengths are not in the file: as in {_lengths_source(options)}{other}\n")


def convert(options: argparse.Namespace) -> None:
    """The same requests in another format."""
    _write(options, lambda: _cut(options, _trace(options, options.file).chunks()))


def resample(options: argparse.Namespace) -> None:
    """Other requests with the same waves and lengths."""
    if not 0 < options.period < INFINITE_S:
        raise UsageError(f"--period must be > 0 seconds, got {options.period:g}")
    rng = np.random.default_rng(options.seed)
    _write(options, lambda: resampled(_cut(options, _trace(options, options.file).chunks()), options.period, rng))


def scale(options: argparse.Namespace) -> None:
    """More of it, or less; faster, or longer."""
    try:
        wanted = Scale(
            rate_ratio=options.rate,
            speed_ratio=options.speed,
            prompt_ratio=options.prompts,
            output_ratio=options.outputs,
        )
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    rng = np.random.default_rng(options.seed)
    _write(options, lambda: scaled(_cut(options, _trace(options, options.file).chunks()), wanted, rng))


def splice(options: argparse.Namespace) -> None:
    """Several traces as one."""
    parts = [_part(options, text) for text in options.files]
    if options.overlay:
        _write(options, lambda: overlaid([chunks for chunks, _ in parts]))
    else:
        _write(options, lambda: spliced(parts, options.gap))


def plot(options: argparse.Namespace) -> None:
    """A picture in a file, or on the terminal."""
    out = options.out or options.picture
    if out is not None and out.suffix != ".svg":
        raise UsageError(f"a plot is an SVG: expected a name that ends in .svg, got {out}")
    check_file(out)
    trace = _trace(options, options.file)
    with screen(None, "reading") as on:
        tally = Tally()
        summarise(_counted(_cut(options, trace.chunks()), on), tally)
        summary = tally.summary()
        on.tell("drawing", 0)
        found = picture(_cut(options, trace.chunks()), summary.span_s)
    if out is None:
        sys.stdout.write(bars(found))
        return
    lengths = "" if trace.format.has_lengths else f", as in {_lengths_source(options)}"
    says = (
        f"{summary.requests:,} requests, {summary.requests_per_s:.3g} a second; prompts {summary.prompt.mean:,.0f} "
        f"and answers {summary.output.mean:,.0f} tokens on average{lengths}"
    )
    write_file(out, svg(found, trace.path.name, says))


def _told(trace: Trace, summary: Summary) -> Iterator[tuple[str, str]]:
    yield "format", f"{trace.format.name}: {trace.format.says}"
    yield "requests", f"{summary.requests:,}" + (" (drawn from its rates)" if trace.format.is_drawn else "")
    if summary.empty_requests:
        yield "  without tokens", f"{summary.empty_requests:,} (no server takes them)"
    yield "span", _span(summary.span_s)
    yield "requests per second", f"{summary.requests_per_s:.3f}"
    yield "busiest minute", f"{summary.peak_minute_to_mean:.2f} times the mean"
    yield "variation of gaps", f"{summary.gap_variation:.2f} (1: a Poisson process; more: bursts)"
    yield "prompt tokens", _figures(summary.prompt)
    yield "answer tokens", _figures(summary.output)
    if summary.sessions:
        each = summary.session_requests / summary.sessions
        yield "conversations", f"{summary.sessions:,}, of {each:.2f} requests on average"
    if summary.adapters:
        yield "adapters", f"{summary.adapters:,}"
    if summary.shared_block_ratio is not None:
        yield "shared blocks", f"{summary.shared_block_ratio:.1%} of the prompts' blocks stood in an earlier prompt"


def _span(span_s: float) -> str:
    """In the largest unit of which there are two."""
    unit_s, unit = next(
        (size for size in ((86_400, "days"), (3600, "h"), (60, "min")) if span_s >= 2 * size[0]), (1, "s")
    )
    return f"{span_s / unit_s:.2f} {unit}"


def _lengths_source(options: argparse.Namespace) -> str:
    return "Azure's conversations of 2023" if options.lengths is None else Path(options.lengths).name


def _figures(tokens: TokenFigures) -> str:
    return f"mean {tokens.mean:.1f}, p50 {tokens.p50}, p95 {tokens.p95}, p99 {tokens.p99}, max {tokens.most}"


def _trace(options: argparse.Namespace, path: Path) -> Trace:
    lengths = None if options.lengths is None else lengths_from(options.lengths)
    return open_trace(path, options.format, Drawing(seed=options.seed, given_lengths=lengths))


def _cut(options: argparse.Namespace, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    begin_s, end_s = _seconds(options.begin, 0.0), _seconds(options.end, INFINITE_S)
    is_empty = True
    for chunk in chunks if (begin_s, end_s) == (0.0, INFINITE_S) else cut(chunks, begin_s, end_s):
        is_empty = False
        yield chunk
    if is_empty:
        raise UsageError(f"no request comes between {begin_s:g} s and {end_s:g} s")


def _part(options: argparse.Namespace, text: str) -> tuple[Iterable[Chunk], float | None]:
    """FILE, or FILE@BEGIN..END."""
    name, has_window, window = text.rpartition("@") if ".." in text.rpartition("@")[2] else (text, "", "")
    chunks = _trace(options, Path(name)).chunks()
    if not has_window:
        return chunks, None
    begin, _, end = window.partition("..")
    begin_s, end_s = _seconds(begin or None, 0.0), _seconds(end or None, INFINITE_S)
    return cut(chunks, begin_s, end_s), None if end_s == INFINITE_S else end_s - begin_s


def _seconds(text: str | None, default: float) -> float:
    """Seconds, or a number with s, m, h or d."""
    if text is None:
        return default
    unit_s = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}.get(text[-1:], 0.0)
    try:
        found = float(text[:-1]) * unit_s if unit_s else float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found < INFINITE_S:
        raise UsageError(f"expected a time such as 90, 90s, 15m, 2h or 1d, got {text!r}")
    return found


def _write(options: argparse.Namespace, make: Callable[[], Iterable[Chunk]]) -> None:
    check_file(options.out)
    to = options.to or _format_of_name(options.out)
    lost: dict[str, None] = {}

    def watched(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        for chunk in chunks:
            lost.update(dict.fromkeys(left_out(chunk, to)))
            yield chunk

    with screen(None, "writing") as on:
        requests = write_trace(_counted(watched(make()), on), options.out, to)
    sys.stdout.write(f"{options.out}: {requests:,} requests as {to}\n")
    sys.stderr.writelines(f"warmtide sim: {said}\n" for said in lost)


def _format_of_name(path: Path) -> str:
    """A table where the name is that of one."""
    name = path.with_suffix("") if path.suffix in (".gz", ".zst") else path
    return "azure" if name.suffix == ".csv" else "mooncake"


def _counted(chunks: Iterable[Chunk], on: Screen) -> Iterator[Chunk]:
    requests = 0
    for chunk in chunks:
        requests += len(chunk)
        on.tell(f"{requests:,} requests", requests)
        yield chunk


def _reads(word: argparse.ArgumentParser) -> None:
    word.add_argument("--format", choices=FORMATS, metavar="NAME", help="default: as the first line shows")
    word.add_argument(
        "--lengths", metavar="NAME|FILE", help="of requests drawn from rates: figures, or another trace's"
    )
    word.add_argument("--seed", type=seed, default=1, metavar="N", help="of what is drawn (default 1)")


def _reads_one(word: argparse.ArgumentParser) -> None:
    word.add_argument("file", type=Path, metavar="FILE", help="any trace (see: warmtide sim trace formats)")
    _reads(word)


def _windowed(word: argparse.ArgumentParser) -> None:
    word.add_argument("--begin", metavar="TIME", help="leave out what comes before: 90, 15m, 2h, 1d")
    word.add_argument("--end", metavar="TIME", help="leave out what comes from then on")


def _writes(word: argparse.ArgumentParser) -> None:
    word.add_argument("--out", type=Path, required=True, metavar="FILE", help="packed where it ends in .gz or .zst")
    word.add_argument("--to", choices=WRITERS, help="the format to write; default: azure for .csv, else mooncake")


def _add_inspect(word: argparse.ArgumentParser) -> None:
    _reads_one(word)
    word.add_argument("--output", choices=("text", "json"), default="text")


def _add_convert(word: argparse.ArgumentParser) -> None:
    _reads_one(word)
    _windowed(word)
    _writes(word)


def _add_resample(word: argparse.ArgumentParser) -> None:
    _add_convert(word)
    word.add_argument("--period", type=float, default=60.0, metavar="SECONDS", help="longer waves stay (default 60)")


def _add_scale(word: argparse.ArgumentParser) -> None:
    _add_convert(word)
    for name, says in (
        ("rate", "times as many requests"),
        ("speed", "times as fast a clock"),
        ("prompts", "times as long prompts"),
        ("outputs", "times as long answers"),
    ):
        word.add_argument(f"--{name}", type=float, default=1.0, metavar="X", help=says)


def _add_splice(word: argparse.ArgumentParser) -> None:
    word.add_argument("files", nargs="+", metavar="FILE[@BEGIN..END]", help="such as monday.csv or week.csv@2d..3d")
    _reads(word)
    _writes(word)
    word.add_argument("--gap", type=float, default=0.0, metavar="SECONDS", help="between one and the next")
    word.add_argument("--overlay", action="store_true", help="all at once instead of one after another")


def _add_plot(word: argparse.ArgumentParser) -> None:
    _reads_one(word)
    _windowed(word)
    word.add_argument("--out", type=Path, metavar="OUT.svg", help="without it: bars on the terminal")
    word.add_argument("picture", type=Path, nargs="?", metavar="OUT.svg", help="the same")


Word = tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], None]]
WORDS: dict[str, Word] = {
    "inspect": ("requests, rates, lengths, bursts and shared prefixes of a trace", _add_inspect, inspect),
    "convert": ("the same requests in another format", _add_convert, convert),
    "resample": ("other requests with the same waves and lengths", _add_resample, resample),
    "scale": ("more of it or less, faster or slower, longer or shorter", _add_scale, scale),
    "splice": ("several traces, or parts of them, as one", _add_splice, splice),
    "plot": ("demand over time and lengths, as SVG or on the terminal", _add_plot, plot),
    "formats": ("the formats that are read and written", lambda word: None, formats),
}
