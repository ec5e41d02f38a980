"""What can go wrong in a calibration, and who acts.

CalibrationError
├── MeasurementError     a file of measurements is not what it should be: whoever brought it
├── ProfileError         a profile file is not what it should be: whoever wrote or edited it
└── ExtrapolationError   a profile is asked about a load that was never measured: measure it, or say --extrapolate
"""

from pathlib import Path

from simulations.errors import SimulationError


class CalibrationError(SimulationError):
    """Base of the errors of this package; the message is for humans."""


class MeasurementError(CalibrationError):
    """A file of measurements was refused; names file, line or field, and what was expected."""

    def __init__(self, path: Path, message: str, *, line: int | None = None, field: str = "") -> None:
        place = str(path) + (f", line {line}" if line is not None else "") + (f", field {field}" if field else "")
        super().__init__(f"{place}: {message}")


class ProfileError(CalibrationError):
    """A profile file was refused."""


class ExtrapolationError(CalibrationError):
    """The load goes beyond what was measured; each item names quantity, measured and asked."""
