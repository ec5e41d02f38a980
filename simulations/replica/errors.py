"""What the replica model refuses.

ReplicaError
├── BadEngineConfigError   a configuration that vLLM would refuse at start-up; a human must change it
└── RequestTooLongError    a request that can never run on this configuration
"""


class ReplicaError(Exception):
    """Root of this package's errors."""


class BadEngineConfigError(ReplicaError, ValueError):
    """A configuration that vLLM would refuse at start-up."""


class RequestTooLongError(ReplicaError, ValueError):
    """A request that can never run on this configuration."""
