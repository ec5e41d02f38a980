"""Emulated servers as containers: settings from the pod, readiness, stops, and failures the kubelet understands."""

import asyncio
import socket
from typing import Any

import pytest

from simulations.cluster.vllm import EmulatorRuntime
from simulations.cluster.vllm.runtime import options_of_pod
from simulations.cluster.workloads.errors import ContainerError

LOOPBACK = "127.0.0.1"


def pod(*arguments: str, environment: str = "") -> dict[str, Any]:
    container: dict[str, Any] = {"name": "kserve-container", "command": ["vllm", "serve"], "args": list(arguments)}
    if environment:
        container["env"] = [{"name": "OTHER"}, {"name": "VLLM_EMULATOR_ARGS", "value": environment}]
    return {"metadata": {"namespace": "team", "name": "llm-0"}, "spec": {"containers": [container]}}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def test_a_pods_own_settings_win_over_defaults_and_its_environment_over_both() -> None:
    defaults = ("--max-num-seqs=8", "--time-scale=5", "--startup-seconds=1")

    options = options_of_pod(
        pod("--max-num-seqs=16", "--startup-seconds=2", environment="--startup-seconds=3"), defaults
    )

    assert (options.engine.max_num_seqs, options.time_scale, options.startup_s) == (16, 5.0, 3.0)


async def test_a_container_serves_when_it_is_ready_and_is_gone_after_it_ended(client: Any) -> None:
    port = free_port()
    async with EmulatorRuntime(("--model-name=tide",)) as runtime:
        container = await runtime.start(pod(), ip=LOOPBACK, port=port)
        await container.wait_ready()
        async with client.get(f"http://{LOOPBACK}:{port}/v1/models") as response:
            models = await response.json()
        running = len(runtime.containers())
        await container.terminate(grace_s=1.0)

        assert models["data"][0]["id"] == "tide"
        assert container.exited.is_set()
        assert (running, len(runtime.containers())) == (1, 0)


async def test_leaving_the_runtime_ends_what_still_runs() -> None:
    async with EmulatorRuntime() as runtime:
        containers = [await runtime.start(pod(), ip=LOOPBACK, port=free_port()) for _ in range(3)]
        await asyncio.gather(*(container.wait_ready() for container in containers))

    assert all(container.exited.is_set() for container in containers)


@pytest.mark.parametrize("stop", ["terminate", "kill"])
async def test_a_container_that_is_stopped_while_it_starts_never_becomes_ready(stop: str) -> None:
    async with EmulatorRuntime(("--startup-seconds=3600",)) as runtime, asyncio.TaskGroup() as tasks:
        container = await runtime.start(pod(), ip=LOOPBACK, port=free_port())

        async def expect_failure() -> None:
            with pytest.raises(ContainerError, match="it was stopped"):
                await container.wait_ready()

        tasks.create_task(expect_failure())
        await asyncio.sleep(0)
        if stop == "terminate":
            await container.terminate(grace_s=1.0)
        else:
            await container.kill()


async def test_a_port_that_is_taken_is_a_container_that_failed() -> None:
    with socket.socket() as taken:
        taken.bind((LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with EmulatorRuntime() as runtime:
            container = await runtime.start(pod(), ip=LOOPBACK, port=port)

            with pytest.raises(ContainerError, match=f"emulator at {LOOPBACK}:{port} ended"):
                await container.wait_ready()
            assert container.exited.is_set()


async def test_settings_that_a_server_would_refuse_fail_the_container_with_the_pods_name() -> None:
    async with EmulatorRuntime() as runtime:
        with pytest.raises(ContainerError, match=r"pod team/llm-0: .*max_num_seqs is 0"):
            await runtime.start(pod("--max-num-seqs=0"), ip=LOOPBACK, port=free_port())
