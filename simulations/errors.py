"""What can go wrong offline, and who acts.

SimulationError
├── UsageError    a command was called with what cannot be: whoever called it
│   └── ScenarioError   a scenario file is not what it should be
├── ReplayError   the past is not known: whoever keeps the records
├── TraceError    the traffic file is not what it should be: whoever brought it
├── SpoolError    a long span's requests do not fit beside memory: whoever owns the disk
└── DemoError     a part of the embedded world did not come up or died: read the named log
"""

from pathlib import Path

INTERRUPTED = 130  # exit code: 128 + SIGINT, as shells say it


class SimulationError(Exception):
    """Base of all errors of this package; the message is for humans."""


class UsageError(SimulationError):
    """An option or a scenario is not what it should be; names it, its value, and what is expected."""


class ScenarioError(UsageError):
    """A scenario was refused; names the scenario, the field and its value."""


class ReplayError(SimulationError):
    """What happened cannot be read; names the record and what it lacks."""


class TraceError(SimulationError):
    """A traffic file was refused; names file, line and column."""

    def __init__(self, path: Path, message: str, *, line: int | None = None, column: str = "") -> None:
        place = str(path) + (f", line {line}" if line is not None else "") + (f", column {column}" if column else "")
        super().__init__(f"{place}: {message}")
        self.line = line
        self.column = column


class SpoolError(SimulationError):
    """Requests could not be kept in a temporary file; names its folder, the bytes needed, and why not."""


class DemoError(SimulationError):
    """A part of the demo failed; names the part and quotes its last words."""
