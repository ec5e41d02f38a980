"""Emulated servers as the containers of pods: the kubelet's `ContainerRuntime` in one process."""

import asyncio
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from metrics.clock import Clock, WallClock
from simulations.cluster.api import Object
from simulations.cluster.workloads.errors import ContainerError

from .errors import BadOptionsError
from .options import ARGS_VARIABLE, ServerOptions, more_arguments, parse_options
from .server import VLLMEmulator


class EmulatorContainer:
    """One pod's server. Its start-up runs while the kubelet waits for readiness."""

    def __init__(self, emulator: VLLMEmulator, *, ip: str, port: int) -> None:
        self.emulator = emulator
        self.exited = emulator.exited
        self._ip = ip
        self._port = port
        self._started = asyncio.Event()
        self._failure: OSError | None = None
        self._starting: asyncio.Task[None] | None = None

    def begin(self, tasks: asyncio.TaskGroup) -> None:
        """Start in the background."""
        self._starting = tasks.create_task(self._start(), name=f"emulator at {self._ip}:{self._port}")

    async def wait_ready(self) -> None:
        """Return when the server listens."""
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(event.wait()) for event in (self._started, self.exited)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
        if self._failure is not None or self.exited.is_set():
            raise ContainerError(
                f"emulator at {self._ip}:{self._port} ended before it was ready: {self._failure or 'it was stopped'}"
            ) from self._failure

    async def terminate(self, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after the grace."""
        self._stop_starting()
        await self.emulator.terminate(grace_s)

    async def kill(self) -> None:
        """SIGKILL."""
        self._stop_starting()
        await self.emulator.kill()

    async def _start(self) -> None:
        """Come up, or keep why not for `wait_ready`."""
        try:
            await self.emulator.start(self._ip, self._port)
        except OSError as exc:
            self._failure = exc
            self.exited.set()
        self._started.set()

    def _stop_starting(self) -> None:
        if self._starting is not None and not self._started.is_set():
            self._starting.cancel()


class EmulatorRuntime:
    """Starts an emulated server per pod. An `async with` block is its life; leaving kills what still runs.

    Settings come from `defaults`, then from the first container's command line, then from its
    VLLM_EMULATOR_ARGS: what comes later wins.
    """

    def __init__(self, defaults: tuple[str, ...] = (), clock: Clock | None = None) -> None:
        self._defaults = defaults
        self._clock = clock or WallClock()
        self._tasks = asyncio.TaskGroup()
        self._containers: set[EmulatorContainer] = set()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for container in self.containers():
            await container.kill()
        await self._tasks.__aexit__(kind, error, trace)

    def containers(self) -> tuple[EmulatorContainer, ...]:
        """Those that run."""
        self._containers = {container for container in self._containers if not container.exited.is_set()}
        return tuple(self._containers)

    async def start(self, pod: Object, *, ip: str, port: int) -> EmulatorContainer:
        """Begin a pod's server."""
        name = f"{pod['metadata'].get('namespace', '')}/{pod['metadata']['name']}"
        try:
            options = options_of_pod(pod, self._defaults)
        except BadOptionsError as exc:
            raise ContainerError(f"pod {name}: {exc}") from exc
        container = EmulatorContainer(VLLMEmulator(options, self._tasks, self._clock), ip=ip, port=port)
        self._containers = {*self.containers(), container}
        container.begin(self._tasks)
        return container


def options_of_pod(pod: Object, defaults: tuple[str, ...] = ()) -> ServerOptions:
    """What the pod's first container asks for; host and port are the kubelet's."""
    container = pod["spec"]["containers"][0]
    words = [*container.get("command", []), *container.get("args", [])]
    options, _ = parse_options([*defaults, *map(str, words), *more_arguments(dict(_environment(container)))])
    return options


def _environment(container: Object) -> Iterator[tuple[str, str]]:
    for variable in container.get("env", []):
        if variable.get("name") == ARGS_VARIABLE:
            yield ARGS_VARIABLE, str(variable.get("value", ""))
