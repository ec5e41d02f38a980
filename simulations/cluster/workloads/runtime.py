"""What the kubelet asks of whatever runs a pod's container, and the runtime that runs nothing."""

import asyncio
from typing import Protocol

from simulations.cluster.api import Object


class Container(Protocol):
    """One running container. `exited` is set once it is gone, for whatever reason."""

    exited: asyncio.Event

    async def wait_ready(self) -> None:
        """Return when it would pass its readiness probe; `ContainerError` when it never will."""
        ...

    async def terminate(self, grace_s: float) -> None:
        """SIGTERM; return when it has ended by itself, or was killed after `grace_s`."""
        ...

    async def kill(self) -> None:
        """SIGKILL; return when it is gone."""
        ...


class ContainerRuntime(Protocol):
    """Starts containers. Called when image and weights are on the node."""

    async def start(self, pod: Object, *, ip: str, port: int) -> Container:
        """Start the pod's server so that it will listen at `ip:port`; `ContainerError` when it cannot."""
        ...


class InstantContainer:
    """Ready at once, gone at once; listens nowhere. A test ends it by setting `exited`."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()

    async def wait_ready(self) -> None:
        return

    async def terminate(self, grace_s: float) -> None:
        del grace_s
        self.exited.set()

    async def kill(self) -> None:
        self.exited.set()


class InstantRuntime:
    """Runs nothing, for tests of everything but the server. Implements `ContainerRuntime`."""

    async def start(self, pod: Object, *, ip: str, port: int) -> InstantContainer:
        del pod, ip, port
        return InstantContainer()
