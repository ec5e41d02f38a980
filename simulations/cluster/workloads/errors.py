"""What can go wrong below the stand-in controllers.

WorkloadError
├── ContainerError      a container could not be started or did not become ready: the kubelet backs off
└── NoAddressError      no free loopback address: needs a human
"""


class WorkloadError(Exception):
    """Root of this package's errors."""


class ContainerError(WorkloadError):
    """The container did not start or ended before it was ready; the kubelet restarts it with back-off."""


class NoAddressError(WorkloadError):
    """No loopback address is free for a pod."""
