"""`python -m nodeagent`: the agent of one node. Logging, signals, wiring; the work is in `reconcile`.

Exit codes: 0 stopped in good order, 1 died, 2 cannot be started like this.
"""

import argparse
import asyncio
import ipaddress
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial
from importlib import metadata

from cacheops.addresses import AddressRules
from cacheops.errors import CacheError
from cacheops.layout import open_cache, why_unclaimed
from cacheops.sources import SourceSettings, settings_from_environment
from metrics.clock import Clock, WallClock
from nodeagent.errors import BadStartError
from nodeagent.fetches import Fetches
from nodeagent.kube import NodeApi
from nodeagent.options import parser
from nodeagent.peers.choice import is_address
from nodeagent.peers.follow import Peers
from nodeagent.peers.server import PeerServer, ServeLimits, serving_peers
from nodeagent.peers.token import TokenFile
from nodeagent.reconcile import Agent, AgentOptions
from nodeagent.serve import serving
from nodeagent.store import Leases, Store

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT."""
    options = parser().parse_args(argv)
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
    store = await _examined(options, clock)
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(NodeApi(options.kubeconfig))
        token = TokenFile(options.peer_token_file) if options.peer_token_file else None
        peers = Peers(options.node, api, token, clock) if token else None
        fetches = Fetches(
            store, clock, workers=options.workers, peers=peers, scrub_bytes_per_s=options.scrub_bytes_per_second
        )
        agent = Agent(store, api, fetches, _agent_options(options), clock)
        server: PeerServer | None = None
        if token:
            server = PeerServer(agent, token, ServeLimits(bytes_per_s=options.peer_bytes_per_second), clock)
            host, port = _host_and_port(options.peer_listen)
            bound = await stack.enter_async_context(serving_peers(server, host, port))
            agent.address = _peer_address(options.peer_address or host, bound)
        host, port = _host_and_port(options.listen)

        def sent_bytes() -> int:
            return server.sent_bytes if server else 0

        bound = await stack.enter_async_context(
            serving(host, port, facts=lambda: agent.facts, sent_bytes=sent_bytes, now_s=clock.now_s)
        )
        shared = f", giving to peers at {agent.address}" if agent.address else ""
        log.info("node %s, cache %s, listening on %s:%d%s", options.node, options.root, host, bound, shared)
        await agent.run(stop)
    log.info("stopped")


async def _examined(options: argparse.Namespace, clock: Clock) -> Store:
    """What lies on this node's disk, with a word of what is wrong there."""
    layout = await asyncio.to_thread(partial(open_cache, options.root, claim=options.claim))
    if why := why_unclaimed(layout):
        log.warning("%s: %s: nothing is ever deleted there; --claim makes it ours", layout.root, why)
    leases = Leases(table=options.mount_table, pods=options.kubelet_pods)
    store = Store(layout, _settings(options), clock, leases)
    for key, faults in (await asyncio.to_thread(store.examine)).items():
        log.warning("%s: damaged: %s", key, "; ".join(faults[:3]))
    return store


def _agent_options(options: argparse.Namespace) -> AgentOptions:
    return AgentOptions(
        node=options.node,
        version=metadata.version("warmtide"),
        is_companion=options.kserve,
        look_s=options.look_seconds,
        idle_s=options.idle_seconds,
        has_own_disk=options.own_disk,
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
    return settings_from_environment(rules, local_files=False, claims=options.claims)


if __name__ == "__main__":
    sys.exit(main())
