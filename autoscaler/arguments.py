"""Types of command-line arguments that several commands take."""

import argparse
import ipaddress
from urllib.parse import urlsplit

from cacheops.provision import size_bytes


def http_url(text: str) -> str:
    """The address of an HTTP API."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is no http:// or https:// URL")
    return text


def network_of(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network in CIDR notation."""
    try:
        return ipaddress.ip_network(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def quantity_bytes(text: str) -> int:
    """A size as Kubernetes writes it: 500Gi, 2T."""
    if not (count_bytes := size_bytes(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 500Gi")
    return count_bytes
