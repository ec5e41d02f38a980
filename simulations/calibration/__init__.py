"""From what a real server did to the five coefficients of its iterations, and how far they can be trusted."""

from .errors import CalibrationError, ExtrapolationError, MeasurementError, ProfileError
from .fit import COEFFICIENTS, Fit, Latencies, fit, fitted_part, replay
from .judge import Coverage, Errors, by_regime, coverage_of_records, coverage_of_run, errors, outstanding, worst
from .profile_file import MachineProfile, profile_text, read_profile
from .read_runs import read_run, read_runs
from .runs import Limits, MeasuredRun, engine_config
from .series import SeriesFit, Stretch, fit_stretches

__all__ = [
    "COEFFICIENTS",
    "CalibrationError",
    "Coverage",
    "Errors",
    "ExtrapolationError",
    "Fit",
    "Latencies",
    "Limits",
    "MachineProfile",
    "MeasuredRun",
    "MeasurementError",
    "ProfileError",
    "SeriesFit",
    "Stretch",
    "by_regime",
    "coverage_of_records",
    "coverage_of_run",
    "engine_config",
    "errors",
    "fit",
    "fit_stretches",
    "fitted_part",
    "outstanding",
    "profile_text",
    "read_profile",
    "read_run",
    "read_runs",
    "replay",
    "worst",
]
