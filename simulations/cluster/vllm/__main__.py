"""`python -m simulations.cluster.vllm`: one emulated vLLM server as a process, e.g. a container's command."""

import asyncio
import logging
import os
import signal
import sys

from .errors import BadOptionsError
from .options import Listen, ServerOptions, more_arguments, parse_options
from .server import FLUSH_S, VLLMEmulator

log = logging.getLogger("simulations.cluster.vllm")


async def serve(options: ServerOptions, listen: Listen) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        emulator = VLLMEmulator(options, tasks)
        starting = tasks.create_task(_start(emulator, listen, stop), name="start")
        await stop.wait()
        starting.cancel()
        # What comes after the grace is the container runtime's business: it sends SIGKILL.
        await emulator.terminate(grace_s=options.shutdown_timeout_s + FLUSH_S)
    return 0 if starting.cancelled() else starting.result()


async def _start(emulator: VLLMEmulator, listen: Listen, stop: asyncio.Event) -> int:
    try:
        await emulator.start(listen.host, listen.port)
    except OSError as exc:
        log.warning("%s cannot listen at %s:%d: %s", emulator.options.model_name, listen.host, listen.port, exc)
        stop.set()
        return 1
    log.info("%s listens at %s:%d", emulator.options.model_name, listen.host, emulator.address.port)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Exit code 2 for bad arguments, 1 where the address is taken, 0 after a signal."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    given = sys.argv[1:] if arguments is None else arguments
    try:
        options, listen = parse_options([*given, *more_arguments(os.environ)])
    except BadOptionsError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - a command's usage error
        return 2
    return asyncio.run(serve(options, listen))


if __name__ == "__main__":
    sys.exit(main())
