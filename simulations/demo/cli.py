"""`warmtide demo`: options, views and exit codes."""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Sequence
from pathlib import Path

from rich.console import Console

from metrics.clock import WallClock
from simulations.cluster.real_vllm import VENV_VARIABLE, VERSION, find_venv
from simulations.demo.frame import View
from simulations.demo.live import LiveView
from simulations.demo.plain import PlainView
from simulations.demo.real import RealDemo, play_real
from simulations.demo.real_verdict import RealVerdict
from simulations.demo.run import Demo, play
from simulations.demo.setting import SECONDS_DEFAULT, SECONDS_MAX, SECONDS_MIN, SEED_DEFAULT, Setting
from simulations.demo.verdict import Verdict
from simulations.demo.workload import make_traffic
from simulations.errors import DemoError, TraceError

FOLDER = Path("build") / "demo"
EMULATED, REAL = "emulated", "vllm"
INTERRUPTED = 130  # 128 + SIGINT, as shells say it


def main(arguments: Sequence[str]) -> int:
    """0: the verdict holds. 1: it does not, or a part failed. 2: called wrongly or a bad trace. 130: interrupted."""
    options = _parser().parse_args(arguments)
    if options.engine == REAL:
        return _main_real(options)
    try:
        setting = Setting(seconds=options.seconds, seed=options.seed)
        traffic = make_traffic(setting, options.trace)
        _make(options.folder)
    except (ValueError, TraceError) as exc:
        sys.stderr.write(f"warmtide demo: {exc}\n")
        return 2
    except KeyboardInterrupt:  # nothing was started yet
        return INTERRUPTED
    demo = Demo(setting, traffic, options.folder, _view(plain=options.plain), WallClock())
    return asyncio.run(_play_until_told(play(demo), demo.view))


def _main_real(options: argparse.Namespace) -> int:
    """The same with real servers, whose times nothing can compress."""
    venv = find_venv(os.environ)
    if venv is None:
        sys.stderr.write(
            f"warmtide demo: no vLLM {VERSION} is installed beside Warmtide: run `make vllm` (once; some minutes, "
            f"5.5 GB in the cache folder), or name a venv that has it in {VENV_VARIABLE}\n"
        )
        return 2
    if options.trace is not None:
        sys.stderr.write("warmtide demo: --trace is for the emulated engine: a trace's requests need a GPU\n")
        return 2
    try:
        _make(options.folder)
    except ValueError as exc:
        sys.stderr.write(f"warmtide demo: {exc}\n")
        return 2
    view = _view(plain=options.plain)
    demo = RealDemo(venv=venv, folder=options.folder, view=view, clock=WallClock(), seed=options.seed)
    return asyncio.run(_play_until_told(play_real(demo), view))


def _make(folder: Path) -> None:
    """For results and logs; ValueError names it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryDirectory(dir=folder).cleanup()
    except OSError as exc:
        raise ValueError(f"--folder {folder} cannot be written: {exc.strerror}") from exc


async def _play_until_told(playing: Awaitable[Verdict | RealVerdict], view: View) -> int:
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, this.cancel)
    try:
        verdict = await playing
    except asyncio.CancelledError:
        view.close()
        sys.stderr.write("warmtide demo: interrupted; everything is stopped\n")
        return INTERRUPTED
    except DemoError as exc:
        view.close()
        sys.stderr.write(f"warmtide demo: {exc}\n")
        return 1
    return 1 if verdict.shortfalls else 0


def _view(*, plain: bool) -> View:
    if plain or not sys.stdout.isatty():
        return PlainView(sys.stdout)
    return LiveView(Console())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide demo",
        description="One hour of real traffic in a minute and a half: the real controller scales an emulated vLLM "
        "service on an embedded cluster. Results, logs and a timeline are left in the folder.",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS_DEFAULT,
        metavar="N",
        help=f"length of the compressed hour, {SECONDS_MIN:g} to {SECONDS_MAX:g} (default {SECONDS_DEFAULT:g})",
    )
    parser.add_argument(
        "--engine",
        choices=(EMULATED, REAL),
        default=EMULATED,
        help=f"{REAL}: real vLLM servers on this machine's CPU, from one to three and back, in some minutes",
    )
    parser.add_argument("--trace", type=Path, metavar="FILE", help="replay this trace (warmtide sim trace formats)")
    parser.add_argument(
        "--seed", type=int, default=SEED_DEFAULT, metavar="N", help=f"of the traffic (default {SEED_DEFAULT})"
    )
    parser.add_argument("--plain", action="store_true", help="a log, not a live view; the default without a terminal")
    parser.add_argument("--folder", type=Path, default=FOLDER, metavar="DIR", help=f"default {FOLDER}")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
