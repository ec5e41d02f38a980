"""What can go wrong when a KServe stand-in is asked for.

KServeError
└── UnknownVersionError   no rules are known for this version: choose another
"""


class KServeError(Exception):
    """Root of this package's errors."""


class UnknownVersionError(KServeError):
    """A version whose behaviour was never observed, or that is no version."""
