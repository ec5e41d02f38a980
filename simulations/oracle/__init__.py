"""What hindsight would have paid: a bound from below for every policy, and a plan close to it."""

from .bound import Bound, Oracle, cheapest
from .demand import Demand, demand_of, demands_of

__all__ = ["Bound", "Demand", "Oracle", "cheapest", "demand_of", "demands_of"]
