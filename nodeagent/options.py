"""The agent's command line: what it is called, what it means, what is refused."""

import argparse
import math
import os
import socket
from pathlib import Path

from cacheops.download import WORKERS_MAX
from cacheops.mounts import Leases
from cacheops.scrub import BYTES_PER_S as SCRUB_BYTES_PER_S
from nodeagent.peers.server import BYTES_PER_S as PEER_BYTES_PER_S
from nodeagent.reconcile import IDLE_S, LOOK_S


def parser() -> argparse.ArgumentParser:
    """All options, in groups."""
    made = argparse.ArgumentParser(
        prog="warmtide agent",
        description="Keeps the models on one node's disk that Warmtide's controller, or KServe's, wants there.",
    )
    _add_node(made)
    _add_cache(made.add_argument_group("the cache"))
    _add_peers(made.add_argument_group("peers"))
    _add_sources(made.add_argument_group("sources"))
    return made


def _add_node(made: argparse.ArgumentParser) -> None:
    add = made.add_argument
    add("--node", default=os.environ.get("NODE_NAME") or socket.gethostname(), help="name of the Node (NODE_NAME)")
    add("--kubeconfig", type=Path, help="kubeconfig file (default: in-cluster, else KUBECONFIG or ~/.kube/config)")
    add("--listen", default="127.0.0.1:8081", type=_address, metavar="HOST:PORT", help="/healthz, /progress, /metrics")
    add(
        "--kserve",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="serve LocalModelNode in the place of KServe's own agent (default: yes)",
    )
    add("--look-seconds", type=float, default=LOOK_S, help="between looks while fetching (default: %(default)s)")
    add("--idle-seconds", type=float, default=IDLE_S, help="between looks otherwise (default: %(default)s)")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))


def _add_cache(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--root", type=Path, default=Path("/var/lib/warmtide"), help="folder of the cache (default: %(default)s)")
    add(
        "--claim",
        action="store_true",
        help="make the folder ours: models are evicted from it; without, nothing is ever deleted there",
    )
    add(
        "--own-disk",
        action="store_true",
        help="no kubelet shares the cache's disk: it is filled to the watermarks, also above 80 %%",
    )
    add(
        "--kubelet-pods",
        type=Path,
        default=Path("/var/lib/kubelet/pods"),
        metavar="DIR",
        help="the kubelet's folder, mounted here with propagation HostToContainer; nothing is evicted without",
    )
    add("--mount-table", type=Path, default=Leases().table, help="where mounts are listed (default: %(default)s)")
    add(
        "--scrub-bytes-per-second",
        type=_speed,
        default=SCRUB_BYTES_PER_S,
        metavar="N",
        help="speed at which published files are read again, 0: they are not (default: %(default).0f)",
    )


def _add_peers(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--peer-token-file",
        type=Path,
        metavar="FILE",
        help="secret that all agents share: give models to each other; without it each fetches for itself",
    )
    add("--peer-listen", default="0.0.0.0:8082", type=_address, metavar="HOST:PORT", help="where peers ask")
    add("--peer-address", default=os.environ.get("POD_IP", ""), metavar="IP", help="our own, for peers (POD_IP)")
    add(
        "--peer-bytes-per-second",
        type=_speed,
        default=PEER_BYTES_PER_S,
        metavar="N",
        help="speed of all that peers get together, 0: no limit (default: %(default).0f)",
    )


def _add_sources(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--workers", type=_workers, default=8, help="connections of one fetch (default: %(default)s)")
    add("--allow-host", action="append", default=[], metavar="HOST[:PORT]", help="a source host that is not public")
    add("--allow-network", action="append", default=[], metavar="CIDR", help="a network of sources that is not public")
    add("--claims", type=Path, metavar="DIR", help="where claims lie for pvc://NAME/path (default: /mnt/claims)")


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 1 to {WORKERS_MAX}")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 <= speed < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of bytes per second")
    return speed
