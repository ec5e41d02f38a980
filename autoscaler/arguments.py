"""Types of command-line arguments that several commands take."""

import argparse
from urllib.parse import urlsplit


def http_url(text: str) -> str:
    """The address of an HTTP API."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is no http:// or https:// URL")
    return text
