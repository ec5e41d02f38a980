"""A service under a policy in virtual time: `simulate(Setting, Policy)` gives an `Outcome`; several on shared nodes."""

from .outcome import Change, Outcome, Series
from .setting import Setting
from .simulate import simulate
from .together import ALONE, Shared, simulate_together

__all__ = ["ALONE", "Change", "Outcome", "Series", "Setting", "Shared", "simulate", "simulate_together"]
