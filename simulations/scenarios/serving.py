"""The parts of a scenario file that say who asks, and how the servers share the work.

clients: # they wait for their answers; without this part requests come by themselves
  count: 60 # at all times; or turns: 5, where the traffic's requests are conversations of so many
  thinkSeconds: 10 # on average, from the end of an answer to the next request
"""

from simulations.scenarios.clients import Clients
from simulations.scenarios.parts import Count, Part, Seconds


class ClientsPart(Part):
    """As `Clients`."""

    count: Count | None = None
    turns: Count | None = None
    think_seconds: Seconds

    def made(self) -> Clients:
        """As a scenario takes it; ValueError."""
        return Clients(count=self.count, turns=self.turns, think_s=self.think_seconds)
