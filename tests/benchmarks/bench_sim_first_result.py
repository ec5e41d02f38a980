"""How long a newcomer waits for the first row of `warmtide sim compare`, and for eight policies on a day.

`cold`: nothing has been compiled yet. `set_up`: the first run after `make` has set up the venv, which compiles.
`warm`: as every later run. CPU seconds, because the machine is shared; the command works on one core, so that these are
the seconds that pass on a quiet one. `cold_wall` are those that did pass.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

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
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def run() -> list[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        began_s = time.perf_counter()
        cold_s = first_row_s(environment)
        cold_wall_s = time.perf_counter() - began_s
        warm_s = first_row_s(environment)
        started_s = _children_s()
        subprocess.run([*COMPARE, *EIGHT], env=environment, check=True, capture_output=True)
        day_s = _children_s() - started_s
    set_up_s, after_s = set_up()
    return [
        Figure(name="sim_first_result_cold", value=cold_s, unit="CPU s", bar=5.0, better="lower"),
        Figure(name="sim_first_result_cold_wall", value=cold_wall_s, unit="s", better="lower"),
        Figure(name="sim_first_result_compiling", value=set_up_s, unit="CPU s", better="lower"),
        Figure(name="sim_first_result_set_up", value=after_s, unit="CPU s", bar=5.0, better="lower"),
        Figure(name="sim_first_result_warm", value=warm_s, unit="CPU s", bar=5.0, better="lower"),
        Figure(name="sim_first_result_day", value=day_s / CORES, unit="CPU s on each of 2", bar=60.0, better="lower"),
    ]


def set_up() -> tuple[float, float]:
    """CPU seconds of compiling into an empty folder, and then until the first row."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        started_s = _children_s()
        subprocess.run(SET_UP, env=environment, check=True, capture_output=True)
        return _children_s() - started_s, first_row_s(environment)


def first_row_s(environment: Mapping[str, str]) -> float:
    """CPU seconds until the static fleet's row stands on screen."""
    with subprocess.Popen([*COMPARE, *ONE], env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.lstrip("│┃ ").startswith("static-"):
                break
        else:
            raise RuntimeError("no row of a static fleet came")
        used_s = _used_s(process.pid)
        process.communicate()
    return used_s


def _used_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system
