"""A service under a policy in virtual time: `simulate(Setting, Policy)` gives an `Outcome`."""

from .outcome import Change, Outcome, Series
from .run import simulate
from .setting import Setting

__all__ = ["Change", "Outcome", "Series", "Setting", "simulate"]
