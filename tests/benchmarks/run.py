"""Run benchmarks: `python tests/benchmarks/run.py [NAME]`. Each is a `bench_NAME.py` with `run() -> list[Figure]`.

Prints one line per figure and writes `build/bench/NAME.json`. The exit code is 1 when a bar falls short, 2 when a
part is missing. Those that need a real control plane or a real vLLM run only by name.
"""

import importlib
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from figures import Figure, MissingPartError

HERE = Path(__file__).parent
ON_DEMAND = ("reaction-peers", "scale-500", "sim-scheduler", "sim-hpa", "sim-oracle")
OUT = HERE.parent.parent / "build" / "bench"


def names() -> list[str]:
    """Every benchmark in this folder, by name."""
    return sorted(path.stem.removeprefix("bench_").replace("_", "-") for path in HERE.glob("bench_*.py"))


def run(name: str) -> list[Figure]:
    """Run one benchmark, print and keep its figures."""
    figures: list[Figure] = []
    for figure in importlib.import_module(f"bench_{name.replace('-', '_')}").run():  # some tell them as they come
        print(figure.line(), flush=True)
        figures.append(figure)
    OUT.mkdir(parents=True, exist_ok=True)
    rows = [asdict(figure) | {"holds": figure.holds} for figure in figures]
    (OUT / f"{name}.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    return figures


def main() -> int:
    chosen = sys.argv[1:] or [name for name in names() if name not in ON_DEMAND]
    unknown = [name for name in chosen if name not in names()]
    if unknown:
        print(f"no benchmark named {', '.join(unknown)}; there are: {', '.join(names())}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))  # what was started ends with us
    try:
        return int(not all([figure.holds for name in chosen for figure in run(name)]))
    except MissingPartError as missing:
        print(f"missing: {missing}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
