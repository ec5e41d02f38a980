"""What can go wrong with what a run leaves behind, and who acts.

OutputError
├── PriceError     a file of prices or budgets is not what it should be: whoever wrote it
└── FolderError    the folder cannot take the results: choose another, or say --force
"""

from simulations.errors import SimulationError


class OutputError(SimulationError):
    """Base of the errors of this package; the message is for humans."""


class PriceError(OutputError):
    """A file of prices or budgets was refused; names file and field."""


class FolderError(OutputError):
    """A folder was refused; names it and why."""
