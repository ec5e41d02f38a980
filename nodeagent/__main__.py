"""`python -m nodeagent`: the agent of one node. Arguments, logging, signals, wiring; the work is in `reconcile`.

Exit codes: 0 stopped in good order, 1 died, 2 cannot be started like this.
"""

import argparse
import asyncio
import ipaddress
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata
from pathlib import Path

from cacheops.addresses import AddressRules
from cacheops.download import WORKERS_MAX
from cacheops.errors import CacheError
from cacheops.layout import open_cache, why_unclaimed
from cacheops.scrub import BYTES_PER_S as SCRUB_BYTES_PER_S
from cacheops.sources import SourceSettings, settings_from_environment
from metrics.clock import WallClock
from nodeagent.errors import BadStartError
from nodeagent.fetches import Fetches
from nodeagent.kube import NodeApi
from nodeagent.peers.choice import is_address
from nodeagent.peers.follow import Peers
from nodeagent.peers.server import BYTES_PER_S, PeerServer, ServeLimits, serving_peers
from nodeagent.peers.token import TokenFile
from nodeagent.reconcile import IDLE_S, LOOK_S, Agent, AgentOptions
from nodeagent.serve import serving
from nodeagent.store import Leases, Store

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname).1s %(name)s: %(message)s")
    for chatty in ("httpx", "httpx2", "huggingface_hub", "aiohttp"):
        logging.getLogger(chatty).setLevel(logging.WARNING)  # a line for each request, signed addresses included
    try:
        asyncio.run(_run(options))
    except (BadStartError, CacheError, OSError) as exc:
        sys.stderr.write(f"warmtide agent: {exc}\n")
        return 2
    return 0


async def _run(options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    clock = WallClock()
    layout = await asyncio.to_thread(partial(open_cache, options.root, claim=options.claim))
    if why := why_unclaimed(layout):
        log.warning("%s: %s: nothing is ever deleted there; --claim makes it ours", layout.root, why)
    leases = Leases(table=options.mount_table, pods=options.kubelet_pods)
    store = Store(layout, _settings(options), clock, leases)
    for key, faults in (await asyncio.to_thread(store.examine)).items():
        log.warning("%s: damaged: %s", key, "; ".join(faults[:3]))
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(NodeApi(options.kubeconfig))
        token = TokenFile(options.peer_token_file) if options.peer_token_file else None
        peers = Peers(options.node, api, token, clock) if token else None
        fetches = Fetches(
            store, clock, workers=options.workers, peers=peers, scrub_bytes_per_s=options.scrub_bytes_per_second
        )
        agent = Agent(store, api, fetches, _agent_options(options), clock)
        if token:
            server = PeerServer(agent, token, ServeLimits(bytes_per_s=options.peer_bytes_per_second), clock)
            host, port = _host_and_port(options.peer_listen)
            bound = await stack.enter_async_context(serving_peers(server, host, port))
            agent.address = _peer_address(options.peer_address or host, bound)
        host, port = _host_and_port(options.listen)
        bound = await stack.enter_async_context(serving(host, port, facts=lambda: agent.facts, now_s=clock.now_s))
        shared = f", giving to peers at {agent.address}" if agent.address else ""
        log.info("node %s, cache %s, listening on %s:%d%s", options.node, layout.root, host, bound, shared)
        await agent.run(stop)
    log.info("stopped")


def _agent_options(options: argparse.Namespace) -> AgentOptions:
    return AgentOptions(
        node=options.node,
        version=metadata.version("warmtide"),
        is_companion=options.kserve,
        look_s=options.look_seconds,
        idle_s=options.idle_seconds,
    )


def _host_and_port(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def _peer_address(host: str, port: int) -> str:
    """Where others find us; a wildcard is no address."""
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not is_address(address) or ipaddress.ip_address(host).is_unspecified:
        raise BadStartError(f"--peer-address {host!r}: the IP address of this pod is needed (POD_IP)")
    return address


def _settings(options: argparse.Namespace) -> SourceSettings:
    try:
        networks = tuple(ipaddress.ip_network(text) for text in options.allow_network)
    except ValueError as exc:
        raise BadStartError(f"--allow-network: {exc}") from exc
    rules = AddressRules(hosts=frozenset(options.allow_host), networks=networks)
    return settings_from_environment(rules, local_files=False)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide agent",
        description="Keeps the models on one node's disk that Warmtide's controller, or KServe's, wants there.",
    )
    add = parser.add_argument
    add("--node", default=os.environ.get("NODE_NAME") or socket.gethostname(), help="name of the Node (NODE_NAME)")
    add("--root", type=Path, default=Path("/var/lib/warmtide"), help="folder of the cache (default: %(default)s)")
    add(
        "--claim",
        action="store_true",
        help="make the folder ours: models are evicted from it; without, nothing is ever deleted there",
    )
    add("--kubeconfig", type=Path, help="kubeconfig file (default: in-cluster, else KUBECONFIG or ~/.kube/config)")
    add("--listen", default="127.0.0.1:8081", type=_address, metavar="HOST:PORT", help="/healthz, /progress, /metrics")
    add(
        "--kserve",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="serve LocalModelNode in the place of KServe's own agent (default: yes)",
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
        "--peer-token-file",
        type=Path,
        metavar="FILE",
        help="secret that all agents share: give models to each other; without it each fetches for itself",
    )
    add("--peer-listen", default="0.0.0.0:8082", type=_address, metavar="HOST:PORT", help="where peers ask")
    add("--peer-address", default=os.environ.get("POD_IP", ""), metavar="IP", help="our own, for peers (POD_IP)")
    add(
        "--peer-bytes-per-second",
        type=float,
        default=BYTES_PER_S,
        metavar="N",
        help="speed of all that peers get together, 0: no limit (default: %(default).0f)",
    )
    add("--workers", type=_workers, default=8, help="connections of one fetch (default: %(default)s)")
    add(
        "--scrub-bytes-per-second",
        type=float,
        default=SCRUB_BYTES_PER_S,
        metavar="N",
        help="speed at which published files are read again, 0: they are not (default: %(default).0f)",
    )
    add("--allow-host", action="append", default=[], metavar="HOST[:PORT]", help="a source host that is not public")
    add("--allow-network", action="append", default=[], metavar="CIDR", help="a network of sources that is not public")
    add("--look-seconds", type=float, default=LOOK_S, help="between looks while fetching (default: %(default)s)")
    add("--idle-seconds", type=float, default=IDLE_S, help="between looks otherwise (default: %(default)s)")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    return parser


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def _workers(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= WORKERS_MAX:
        raise argparse.ArgumentTypeError(f"{text!r} is not within 1 to {WORKERS_MAX}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
