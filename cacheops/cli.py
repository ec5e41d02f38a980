"""`warmtide cache`: what there is to call. The work is in `cacheops.commands`, loaded when it is called.

Each command works on a folder (DIR), and with `--cluster` or `--node NAME` in its place on a cluster.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from cacheops.budget import HIGH_RATIO, LOW_RATIO
from cacheops.download import WORKERS_MAX
from cacheops.errors import CacheError, InvalidRequestError
from cacheops.mounts import MOUNT_TABLE
from metrics.clock import WallClock

if TYPE_CHECKING:
    from cacheops.commands.cluster import ClusterApi

Connect = Callable[[Path | None, str | None], AbstractAsyncContextManager["ClusterApi"]]

DESCRIPTION = """\
A node's model cache in a folder: a model is there whole and verified, or not at all.

  warmtide cache prefetch ./models hf://org/name   bring a model; resumes what was interrupted
  warmtide cache ls ./models                       what is here, on its way, failed
  warmtide cache ls --cluster                      the same of a cluster's ModelCaches

Exit codes: 0 fine, 1 something could not be done or is damaged, 2 it was called wrongly.
"""
CREDENTIALS = (
    "Sources read HF_TOKEN and HF_ENDPOINT, and what every AWS client reads (AWS_ACCESS_KEY_ID, AWS_PROFILE, "
    "AWS_ENDPOINT_URL_S3 …), and WARMTIDE_CLAIMS for --claims. Addresses that are not public, and plain http, need "
    "--allow-host."
)


@dataclass(frozen=True, slots=True)
class Command:
    """One word after `warmtide cache`."""

    name: str
    home: str  # `module:function` under cacheops.commands that does it on a folder
    words: str  # what may follow the place; empty: nothing
    help: str
    has_dry_run: bool = True


COMMANDS = (
    Command("prefetch", "fetching:prefetch", "URI", "bring a model: resumed, verified, published in one step"),
    Command("ls", "looking:list_models", "", "what is here, on its way, failed", has_dry_run=False),
    Command(
        "plan", "looking:plan_folder", "[URI …]", "what would be fetched, kept, evicted, and why", has_dry_run=False
    ),
    Command("verify", "looking:verify", "", "compare every byte with its digest; exit code 1 when one differs"),
    Command("evict", "keeping:evict", "[MODEL …]", "take models away; what is in use or pinned stays"),
    Command("pin", "keeping:pin", "MODEL …", "keep models whatever the plan says"),
    Command("unpin", "keeping:unpin", "MODEL …", "let the plan decide again"),
    Command("du", "looking:du", "", "bytes on disk, by model", has_dry_run=False),
)


def main(arguments: Sequence[str], connect: Connect | None = None) -> int:
    """Run one command; what failed is one line, never a traceback. `connect` opens a cluster."""
    options = parse(arguments)
    try:
        if options.cluster or options.node:
            import asyncio

            return asyncio.run(_on_cluster(options, connect))
        _take_place(options)
        module, function = options.command.home.split(":")
        code: int = getattr(import_module(f"cacheops.commands.{module}"), function)(options)
    except CacheError as exc:
        sys.stderr.write(f"warmtide cache: {exc.reason}: {exc}\n")
        return 2 if isinstance(exc, InvalidRequestError) else 1
    return code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The command and its options; leaves the program with 2 and the usage where they make no sense."""
    parser = _parser()
    if not arguments:
        parser.print_help(sys.stderr)
        raise SystemExit(2)
    return parser.parse_args(arguments)


async def _on_cluster(options: argparse.Namespace, connect: Connect | None) -> int:
    if options.node and options.command.name not in {"ls", "plan", "du", "verify"}:
        words = "the controller places models; --cluster with NAMESPACE/NAME changes what it places"
        raise InvalidRequestError(f"{options.command.name} --node {options.node}: {words}")
    if connect is None:
        raise InvalidRequestError("--cluster: started without a way to a cluster; use `warmtide cache`")
    async with connect(options.kubeconfig, options.context) as api:
        return await _called(options, api)


async def _called(options: argparse.Namespace, api: "ClusterApi") -> int:
    from cacheops.commands import cluster
    from cacheops.commands.fetching import wanted_ref

    match options.command.name:
        case "ls":
            return await cluster.list_models(api, options.node)
        case "plan":
            return await cluster.plan(api, options.node, WallClock().now_s())
        case "du":
            return await cluster.du(api, options.node)
        case "verify":
            return await cluster.verify(api, options.node)
        case "prefetch":
            ref = wanted_ref(options)
            return await cluster.prefetch(api, ref, _cache_name(options), nodes=options.nodes, dry_run=options.dry_run)
        case "evict":
            return await cluster.evict(api, options.words, dry_run=options.dry_run)
    is_pinned = options.command.name == "pin"
    return await cluster.pin(api, options.words, is_pinned=is_pinned, dry_run=options.dry_run)


def _cache_name(options: argparse.Namespace) -> str:
    if not options.name:
        raise InvalidRequestError("prefetch --cluster: --name NAMESPACE/NAME of the ModelCache is needed")
    name: str = options.name
    return name


def _take_place(options: argparse.Namespace) -> None:
    """The first word is the folder, where no cluster is meant."""
    if not options.words:
        raise InvalidRequestError(f"{options.command.name}: name the cache's folder, or --cluster, or --node NAME")
    place = options.words.pop(0)
    if "://" in place:
        raise InvalidRequestError(f"{options.command.name}: {place} is a URI; the cache's folder comes before it")
    options.root = Path(place)
    if options.words and not options.command.words:
        raise InvalidRequestError(f"{options.command.name}: takes no {options.words[0]!r} after the folder")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide cache", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in COMMANDS:
        what = f"{command.help[0].upper()}{command.help[1:]}."
        usage = f"warmtide cache {command.name} (DIR | --cluster | --node NAME) {command.words} [options]"
        one = commands.add_parser(command.name, help=command.help, description=what, usage=" ".join(usage.split()))
        one.epilog = CREDENTIALS if command.name in {"prefetch", "plan"} else None
        one.set_defaults(command=command)
        one.add_argument("words", nargs="*", metavar="WORD", help=_words_help(command))
        _add_common(one, command)
        if command.name in {"prefetch", "verify"}:
            one.add_argument("--mib-per-s", type=_rate, default=0.0, metavar="MIB", help="no faster than this")
        if command.name in {"ls", "plan", "evict"}:
            one.add_argument(
                "--mount-table", type=Path, default=MOUNT_TABLE, metavar="FILE", help="where mounts are listed"
            )
        if command.name in {"prefetch", "plan"}:
            _add_source_options(one)
        if command.name in _OWN_OPTIONS:
            _OWN_OPTIONS[command.name](one)
    return parser


def _words_help(command: Command) -> str:
    meanings = {
        "URI": "a URI is hf://org/name[@rev], s3://bucket/prefix, https://host/folder/, "
        "pvc://claim/folder or file:///folder",
        "[URI …]": "models that are wanted too",
        "MODEL …": "a model is a KEY of `ls` or a URI; on a cluster NAMESPACE/NAME or a URI",
        "[MODEL …]": "a model is a KEY of `ls` or a URI; on a cluster NAMESPACE/NAME or a URI",
        "": "the cache's folder",
    }
    return meanings[command.words]


def _add_common(one: argparse.ArgumentParser, command: Command) -> None:
    place = one.add_mutually_exclusive_group()
    place.add_argument("--cluster", action="store_true", help="work on the cluster of your kubeconfig, not on a folder")
    place.add_argument("--node", metavar="NAME", help="look at one node of that cluster")
    one.add_argument("--kubeconfig", type=Path, help="kubeconfig file; default: $KUBECONFIG or ~/.kube/config")
    one.add_argument("--context", help="context of the kubeconfig; default: the current one")
    if command.has_dry_run:
        one.add_argument("--dry-run", action="store_true", help="only say what would be done, and why")


def _add_source_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--allow-host", action="append", default=[], metavar="HOST", help="private host or network")
    one.add_argument("--claims", type=Path, metavar="DIR", help="where claims lie for pvc://NAME/path")


def _add_prefetch_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--allow", action="append", metavar="PATTERN", help="files like this instead of the safe kinds")
    one.add_argument("--ignore", action="append", default=[], metavar="PATTERN", help="no files like this")
    one.add_argument(
        "--workers", type=_workers, default=8, metavar="N", help=f"connections, 1 to {WORKERS_MAX} (default: 8)"
    )
    one.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print what was done")
    one.add_argument("--name", metavar="NAMESPACE/NAME", help="of the ModelCache, with --cluster")
    one.add_argument(
        "--nodes", type=int, default=1, metavar="N", help="that shall hold it, with --cluster (default: 1)"
    )


def _add_plan_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--quota-gib", type=_rate, metavar="GIB", help="what the cache may hold at most")
    one.add_argument(
        "--high", type=float, metavar="SHARE", help=f"of the disk (default: {HIGH_RATIO}, and below a kubelet's)"
    )
    one.add_argument("--low", type=float, metavar="SHARE", help=f"of the disk, shed down to (default: {LOW_RATIO})")


def _add_verify_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--quick", action="store_true", help="names and sizes only")


def _add_evict_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("--free-gib", type=_rate, metavar="GIB", help="those worth least, until so much is freed")
    one.add_argument("--claim", action="store_true", help="make a folder ours that held other things before the cache")


_OWN_OPTIONS: dict[str, Callable[[argparse.ArgumentParser], None]] = {
    "prefetch": _add_prefetch_options,
    "plan": _add_plan_options,
    "verify": _add_verify_options,
    "evict": _add_evict_options,
}


def _rate(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (rate := float(text)) < float("inf"):
            return rate
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")


def _workers(text: str) -> int:
    with suppress(ValueError):
        if 1 <= (count := int(text)) <= WORKERS_MAX:
            return count
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {WORKERS_MAX}")
