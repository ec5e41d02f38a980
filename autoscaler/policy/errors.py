"""What can go wrong in the pure core.

PolicyError
└── BadMemoryError   a saved memory cannot be read: start a fresh one, seeded with the current replicas
"""


class PolicyError(Exception):
    """Anything the pure core refuses."""


class BadMemoryError(PolicyError):
    """A saved memory is not one of ours; the message names field and value."""
