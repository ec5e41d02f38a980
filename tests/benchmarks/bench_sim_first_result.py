"""How long a newcomer waits for the first row of `warmtide sim compare`, and for eight policies on a day.

`cold`: nothing has been compiled yet; the median of some runs. `set_up`: the first run after `make` has set up the
venv, which compiles. `warm`: as every later run. CPU seconds, because the machine is shared; the command works on one
core, so that these are the seconds that pass on a quiet one. `wall` are those that did pass: `cold_wall` until the row,
`cold_all_wall` until the second one and the end.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from figures import Figure

SET_UP = (sys.executable, "-m", "simulations.ahead")
COMPARE = (sys.executable, "-m", "warmtide", "sim", "compare")
ONE = ("--policies", "hpa-queue")
EIGHT = (
    "--policies",
    "warmtide,hpa-queue,keda-prodstack,keda-epp-queue,kpa,aibrix-apa,wva-saturation,skyserve",
    "--scenario",
    "chat-day",
)
CORES = 2
COLD_RUNS = 3  # of which the median counts: others work on the same machine
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Of who calls the command: CPU seconds, and seconds, until the static fleet's row; seconds until the end."""

    used_s: float
    row_s: float
    all_s: float


def run() -> list[Figure]:
    colds = [_first_row_of_all() for _ in range(COLD_RUNS - 1)]
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        colds.append(first_row(environment))
        warm = first_row(environment)
        day_s = _used_by((*COMPARE, *EIGHT), environment)
    set_up_s, after = set_up()
    cold_s, row_s, all_s = (median(getattr(cold, name) for cold in colds) for name in ("used_s", "row_s", "all_s"))
    return [
        Figure(name="sim_first_result_cold", value=cold_s, unit="CPU s", bar=5.0, better="lower"),
        Figure(name="sim_first_result_cold_wall", value=row_s, unit="s", better="lower"),
        Figure(name="sim_first_result_cold_all_wall", value=all_s, unit="s", better="lower"),
        Figure(name="sim_first_result_compiling", value=set_up_s, unit="CPU s", better="lower"),
        Figure(name="sim_first_result_set_up", value=after.used_s, unit="CPU s", bar=5.0, better="lower"),
        Figure(name="sim_first_result_warm", value=warm.used_s, unit="CPU s", bar=5.0, better="lower"),
        Figure(name="sim_first_result_day", value=day_s / CORES, unit="CPU s on each of 2", bar=60.0, better="lower"),
    ]


def _first_row_of_all() -> Wait:
    with tempfile.TemporaryDirectory() as folder:
        return first_row(os.environ | {"NUMBA_CACHE_DIR": folder})


def set_up() -> tuple[float, Wait]:
    """CPU seconds of compiling into an empty folder, and then the first command."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        return _used_by(SET_UP, environment), first_row(environment)


def _used_by(command: Sequence[str], environment: Mapping[str, str]) -> float:
    started_s = _children_s()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return _children_s() - started_s


def first_row(environment: Mapping[str, str]) -> Wait:
    """Call the command and read what it prints."""
    began_s = time.perf_counter()
    with subprocess.Popen([*COMPARE, *ONE], env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.lstrip("│┃ ").startswith("static-"):
                break
        else:
            raise RuntimeError("no row of a static fleet came")
        used_s, row_s = _used_s(process.pid), time.perf_counter() - began_s
        process.communicate()
    return Wait(used_s=used_s, row_s=row_s, all_s=time.perf_counter() - began_s)


def _used_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
