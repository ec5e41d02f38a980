"""Addresses of pods on loopback: an own 127.x.y.z each where the system can bind them, else own ports.

Linux answers on all of 127.0.0.0/8; macOS on 127.0.0.1 alone. There every pod gets 127.0.0.1 with a
free port of its own, and the kubelet rewrites the pod's `prometheus.kserve.io/port` annotation to it.
A real API server takes such addresses on pods, but not in EndpointSlices: clients there go by the pods.
"""

import ipaddress
import socket
from dataclasses import dataclass

from simulations.cluster.workloads.errors import NoAddressError

_FIRST = int(ipaddress.ip_address("127.64.0.1"))  # far from 127.0.0.x, which people use
_LAST = int(ipaddress.ip_address("127.127.255.254"))
_ATTEMPTS = 512  # a neighbour's cluster may hold a run of them
_SPREAD = 64 * 256  # clusters of one machine start this far apart, by process


@dataclass(frozen=True, slots=True)
class Address:
    """Where a pod's server listens."""

    ip: str
    port: int


def can_bind(ip: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: an old TIME_WAIT is no bar
        try:
            probe.bind((ip, port))
        except OSError:
            return False
        return True


class LoopbackAddresses:
    """Hands out one address per pod and takes it back."""

    def __init__(self, seed: int = 0, *, own_ips: bool | None = None) -> None:
        """`seed` tells clusters of one machine apart; `own_ips` None asks the system once."""
        self.has_own_ips = can_bind(str(ipaddress.ip_address(_FIRST)), 0) if own_ips is None else own_ips
        self._next = _FIRST + (seed * _SPREAD) % (_LAST - _FIRST)
        self._taken: set[Address] = set()

    @property
    def in_use(self) -> int:
        """How many are handed out."""
        return len(self._taken)

    def take(self, port: int) -> Address:
        """A free address for a server that wants this port."""
        address = self._take_ip(port) if self.has_own_ips else self._take_port()
        self._taken.add(address)
        return address

    def give_back(self, address: Address) -> None:
        """The pod is gone."""
        self._taken.discard(address)

    def _take_ip(self, port: int) -> Address:
        for _ in range(_ATTEMPTS):
            address = Address(str(ipaddress.ip_address(self._next)), port)
            self._next = self._next + 1 if self._next < _LAST else _FIRST
            if address not in self._taken and can_bind(address.ip, port):
                return address
        raise NoAddressError(f"port {port} is taken on {_ATTEMPTS} loopback addresses before {address.ip}")

    def _take_port(self) -> Address:
        for _ in range(_ATTEMPTS):
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
                probe.bind(("127.0.0.1", 0))
                address = Address("127.0.0.1", probe.getsockname()[1])
            if address not in self._taken:
                return address
        raise NoAddressError(f"no free port on 127.0.0.1 in {_ATTEMPTS} attempts")
