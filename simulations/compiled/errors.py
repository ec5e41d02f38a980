"""What the compiled engine refuses.

SimulationError
└── UnsupportedConfigError   the reference engine can run this configuration, the compiled one cannot
"""

from simulations.errors import SimulationError


class UnsupportedConfigError(SimulationError, ValueError):
    """A configuration outside of what the compiled engine models exactly."""
