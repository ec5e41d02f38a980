"""The front door: `warmtide demo | controller | agent | sim | why | check | cache`.

This file knows names and one line of help. What a command does, its options and its `--help` live in
its module, loaded only when it is called. Typer shows help and says what was mistyped; a line that begins with a
command goes straight to its module, without the tenth of a second that Typer and the pydantic in it take to load.
Exit codes of every command: 0 fine, 1 a verdict failed or problems were found, 2 it was called wrongly.
"""

import errno
import gc
import os
import sys
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer

INTERRUPTED = 130  # what a shell says of a command that Ctrl-C ended
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PACKAGES = ("autoscaler", "cacheops", "metrics", "nodeagent", "simulations")


@dataclass(frozen=True, slots=True)
class Command:
    """One word after `warmtide`: `MODULE.main(arguments) -> exit code` does the work."""

    name: str
    module: str
    help: str


# One line each, at most 63 characters: what fits beside the name on a terminal of 80.
COMMANDS = (
    Command("demo", "simulations.demo.cli", "Watch it scale a service here: 90 seconds, no cluster, no GPU."),
    Command("controller", "autoscaler.__main__", "Run the autoscaler for the cluster of your kubeconfig."),
    Command("sim", "simulations.cli", "Replay traffic through policies offline: run, compare."),
    Command("agent", "nodeagent.__main__", "Run the node agent: models on this node's disk, verified."),
    Command("why", "autoscaler.explain", "Why a service has its replicas, and what would change that."),
    Command("check", "autoscaler.check", "Examine a cluster: what is wrong, and what to do about it."),
    Command("cache", "autoscaler.cache_command", "Model caches, here or in a cluster: prefetch, ls, plan, pin."),
)


def main() -> None:
    """The console script."""
    words = sys.argv[1:]
    called = next((command for command in COMMANDS if words[:1] == [command.name]), None)
    if called is None:
        app()()
    else:
        sys.exit(_run_from_shell(called, words[1:]))


def run(command: Command, arguments: list[str]) -> int:
    """Load a command's module and hand it the rest of the line; 1 where a package of an extra is missing."""
    try:
        code: int = _module(command).main(arguments)
    except ModuleNotFoundError as exc:  # also from within: commands import what only some of their words need
        if exc.name is None or exc.name.split(".")[0] in PACKAGES:
            raise
        sys.stderr.write(f"warmtide {command.name} needs {exc.name}, which is not installed: pip install '.[sim]'\n")
        return 1
    return code


def _module(command: Command) -> ModuleType:
    gc.disable()  # what imports make lives to the end: the collector would look through it again and again
    try:
        return import_module(command.module)
    finally:
        gc.freeze()
        gc.enable()


def _run_from_shell(command: Command, arguments: list[str]) -> int:
    """`run`, and a quiet end where a person stops it or nobody reads on."""
    try:
        code = run(command, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        _end_unheard()
        return 1
    except OSError as exc:
        if exc.errno not in NO_ROOM:
            raise
        _end_unheard()
        sys.stderr.write(f"warmtide {command.name}: {exc.filename or 'the output'}: {exc.strerror}\n")
        return 1
    return code


def _end_unheard() -> None:
    """Python would flush once more at its end, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def app() -> "typer.Typer":
    """Help, the version, and what was mistyped; and every command, for who calls it from Python."""
    import typer

    front = typer.Typer(
        name="warmtide",
        help="Keeps vLLM services on Kubernetes warm ahead of the tide: autoscaling that says why.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help: a quarter of the import time
    )
    for command in COMMANDS:
        _add(front, command)

    @front.callback()
    def options(
        version: bool = typer.Option(
            False, "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ) -> None:
        """Options that stand before a command."""

    return front


def _add(front: "typer.Typer", command: Command) -> None:
    import typer

    def call(context: typer.Context) -> None:
        raise typer.Exit(run(command, context.args))

    pass_on = {"allow_extra_args": True, "ignore_unknown_options": True}  # --help too is the command's own
    front.command(command.name, help=command.help, add_help_option=False, context_settings=pass_on)(call)


def _print_version(wanted: bool) -> None:
    from importlib import metadata

    import typer

    if wanted:
        typer.echo(f"warmtide {metadata.version('warmtide')}")
        raise typer.Exit


if __name__ == "__main__":
    main()
