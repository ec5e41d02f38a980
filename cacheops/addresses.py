"""Which hosts a source may send us to (SSRF guard), and a socket to exactly the address that was checked.

A URI comes from a tenant, a redirect from anyone: neither may reach the node's metadata service, its loopback or the
cluster's inside. A name is resolved once, every address is judged, and the socket goes to a judged address: what DNS
says a moment later does not matter. An administrator may allow hosts and networks; only there plain http is spoken.
"""

import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from cacheops.errors import InvalidRequestError, SourceUnavailableError

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

# What `ipaddress` takes for public, by version of Python or for good, and a node must not be talked into asking:
_INSIDE = (
    ipaddress.ip_network("192.0.0.0/24"),  # IETF protocol assignments; Oracle's metadata service is 192.0.0.192
    ipaddress.ip_network("168.63.129.16/32"),  # Azure's wire server: an address of the Internet that is the host
    ipaddress.ip_network("fec0::/10"),  # site-local, deprecated (RFC 3879) and still routed by some
    ipaddress.ip_network("64:ff9b:1::/48"),  # local-use translation (RFC 8215): any inner address
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # carries an IPv4 address that the check must see
DEFAULT_PORTS = {"http": 80, "https": 443}
URL_CHARS_MAX = 8192  # signed URLs are long; past this it is an attack on our memory


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a credential may go: the same scheme, host and port or nowhere."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}"


def lookup_addresses(host: str, port: int) -> Sequence[str]:
    """Addresses of a name, or of an address in any spelling that the system takes: `127.1`, `0x7f000001`, `[::1]`."""
    return [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressRules:
    """What an administrator allows beyond public https."""

    hosts: frozenset[str] = frozenset()  # `name` or `name:port`, private addresses and plain http included
    networks: tuple[IpNetwork, ...] = ()
    lookup: Callable[[str, int], Sequence[str]] = lookup_addresses  # asked once for each connection

    def allows_host(self, origin: Origin) -> bool:
        """Whether this very host was named."""
        return origin.host in self.hosts or f"{origin.host}:{origin.port}" in self.hosts

    def allows(self, address: IpAddress) -> bool:
        """Whether an address may be connected to."""
        return is_public(address) or any(address in network for network in self.networks)


def is_public(address: IpAddress) -> bool:
    """Whether an address is on the public Internet, seen through every way to wrap an IPv4 address in IPv6."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    if any(address in network for network in _INSIDE):
        return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def origin_of(url: str) -> Origin:
    """Scheme, host and port of an http(s) URL without credentials in it."""
    if len(url) > URL_CHARS_MAX:
        raise InvalidRequestError(f"address of {len(url)} characters, {URL_CHARS_MAX} are allowed")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise InvalidRequestError(f"address {redacted(url)!r}: {exc}") from exc
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise InvalidRequestError(f"address {redacted(url)!r}: only http(s)://host/… is fetched")
    if parts.username is not None or parts.password is not None:
        raise InvalidRequestError(f"address on {parts.hostname!r}: credentials do not belong in a URL")
    return Origin(parts.scheme, parts.hostname, port or DEFAULT_PORTS[parts.scheme])


def redacted(url: str) -> str:
    """A URL without its query and credentials: signatures must not reach logs or status."""
    text = url.split("?", 1)[0].split("#", 1)[0]
    scheme, separator, rest = text.partition("://")
    return f"{scheme}{separator}{rest.rsplit('@', 1)[-1]}"[:300]


def checked_addresses(origin: Origin, rules: AddressRules) -> list[str]:
    """The addresses of a host, or InvalidRequestError when any of them is off limits."""
    named = rules.allows_host(origin)
    if origin.scheme != "https" and not named:
        raise InvalidRequestError(f"{origin}: plain http is spoken to allow-listed hosts only")
    try:
        addresses = list(rules.lookup(origin.host, origin.port))
    except (OSError, UnicodeError) as exc:
        raise SourceUnavailableError(f"{origin}: the name does not resolve: {exc}") from exc
    for text in addresses:
        if not named and not rules.allows(ipaddress.ip_address(text.split("%", 1)[0])):
            raise InvalidRequestError(f"{origin}: address {text} is not public and not allow-listed")
    return addresses


def connect(
    origin: Origin, rules: AddressRules, tls: Callable[[], ssl.SSLContext], *, timeout_s: float
) -> socket.socket:
    """A socket to a checked address, TLS included; `tls` is asked for https only."""
    last: OSError | None = None
    for address in checked_addresses(origin, rules):
        try:
            plain = socket.create_connection((address, origin.port), timeout=timeout_s)
        except OSError as exc:
            last = exc
            continue
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return _secured(plain, origin, tls)
    raise SourceUnavailableError(f"{origin}: cannot connect: {last}") from last


def _secured(plain: socket.socket, origin: Origin, tls: Callable[[], ssl.SSLContext]) -> socket.socket:
    if origin.scheme != "https":
        return plain
    try:
        return tls().wrap_socket(plain, server_hostname=origin.host)
    except OSError as exc:  # ssl.SSLError is one
        plain.close()
        raise SourceUnavailableError(f"{origin}: TLS: {exc}") from exc
