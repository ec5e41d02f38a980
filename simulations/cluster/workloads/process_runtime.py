"""Containers as processes of this machine: any server that can be told its address, e.g. a real vLLM.

Each process leads a group of its own. SIGTERM goes to the leader alone, as a kubelet sends it to a
container's first process: a real vLLM whose engine hears it too may hang. SIGKILL, and the leader's
end, take the whole group. `{ip}`, `{port}`, `{namespace}`, `{pod}` and `{model}` in the command are
replaced, a word `{args}` by the container's own arguments; the container's `env` is set.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp

from metrics.clock import Clock
from simulations.cluster.api import Object
from simulations.cluster.workloads.errors import ContainerError
from simulations.cluster.workloads.startup import model_of

_PROBE_PERIOD_S = 0.25
_PROBE_TIMEOUT_S = 1.0  # the default of Kubernetes' probes


class _ExitWatch(asyncio.SubprocessProtocol):
    """Waits for the group's leader, and takes the rest of the group along."""

    def __init__(self) -> None:
        self.exited = asyncio.Event()
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.SubprocessTransport):
            self._transport = transport

    def process_exited(self) -> None:
        if self._transport is not None:
            _kill_group(self._transport.get_pid())
            self._transport.close()
        self.exited.set()


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


class ProcessContainer:
    """One process group. Implements `Container`."""

    def __init__(self, transport: asyncio.SubprocessTransport, exited: asyncio.Event, url: str, clock: Clock) -> None:
        self.exited = exited
        self._transport = transport
        self._leader = transport.get_pid()  # of a session of its own: its pid is the group's number
        self._url = url
        self._clock = clock

    async def wait_ready(self) -> None:
        """Return when the health page answers 200."""
        timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while not await self._answers(session):
                if self.exited.is_set():
                    code = self._transport.get_returncode()
                    raise ContainerError(f"process {self._leader} exited with {code} before {self._url} answered")
                await self._clock.sleep(_PROBE_PERIOD_S)

    async def _answers(self, session: aiohttp.ClientSession) -> bool:
        try:
            async with session.get(self._url) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def terminate(self, grace_s: float) -> None:
        """SIGTERM to the leader; SIGKILL to the group after the grace."""
        if not self.exited.is_set():
            with suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGTERM)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.exited.wait()
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to the group."""
        if not self.exited.is_set():  # else the number may be somebody else's by now
            _kill_group(self._leader)
        await self.exited.wait()


class ProcessRuntime:
    """Starts a process per pod. Implements `ContainerRuntime`."""

    def __init__(
        self, command: Sequence[str], clock: Clock, logs: Path | None = None, health_path: str = "/health"
    ) -> None:
        """`logs` is a folder for one file of output per pod; without it output is dropped."""
        self._command = tuple(command)
        self._clock = clock
        self._logs = logs
        self._health_path = health_path

    async def start(self, pod: Object, *, ip: str, port: int) -> ProcessContainer:
        """Start the pod's process."""
        words = _filled(self._command, pod, ip, port)
        output = self._output(pod)
        try:
            transport, watch = await asyncio.get_running_loop().subprocess_exec(
                _ExitWatch,
                *words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **_environment(pod)},
                start_new_session=True,
            )
        except OSError as error:
            raise ContainerError(f"pod {pod['metadata']['name']}: cannot start {words[0]}: {error}") from error
        finally:
            if output != subprocess.DEVNULL:
                os.close(output)  # the process has its own copy
        url = f"http://{ip}:{port}{self._health_path}"
        return ProcessContainer(transport, watch.exited, url, self._clock)

    def _output(self, pod: Object) -> int:
        if self._logs is None:
            return subprocess.DEVNULL
        self._logs.mkdir(parents=True, exist_ok=True)
        file = self._logs / f"{pod['metadata'].get('namespace', 'default')}_{pod['metadata']['name']}.log"
        return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)


def _filled(command: Sequence[str], pod: Object, ip: str, port: int) -> list[str]:
    """Only the known names are replaced: arguments may hold JSON with braces of its own."""
    known = {
        "{ip}": ip,
        "{port}": str(port),
        "{namespace}": str(pod["metadata"].get("namespace", "")),
        "{pod}": str(pod["metadata"]["name"]),
        "{model}": model_of(pod),
    }
    own = [str(word) for word in pod["spec"]["containers"][0].get("args") or ()]
    return [filled for word in command for filled in (own if word == "{args}" else [_replaced(word, known)])]


def _replaced(word: str, known: Mapping[str, str]) -> str:
    for name, value in known.items():
        word = word.replace(name, value)
    return word


def _environment(pod: Object) -> dict[str, str]:
    variables = pod["spec"]["containers"][0].get("env") or ()
    return {variable["name"]: str(variable["value"]) for variable in variables if "value" in variable}
