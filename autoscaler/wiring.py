"""The controller's parts put together: what feeds what, what runs, and how it ends."""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from autoscaler.caching.resolve import List
from autoscaler.caching.start import CacheOptions, Hands, keeper_of
from autoscaler.cluster import Cluster
from autoscaler.collect import Collector
from autoscaler.controller import SWEEP, Controller
from autoscaler.informers import informers_of
from autoscaler.kube.client import KubeClient
from autoscaler.kube.publish import Publisher
from autoscaler.kube.reports import Reports
from autoscaler.kube.resources import DEPLOYMENTS, PODS
from autoscaler.kube.scale import Scaler
from autoscaler.kube.target import NoPast, World
from autoscaler.kube.watch import WatchClient
from autoscaler.kube.writer import Api, Writer
from autoscaler.leader import Election, LeaseClient, LeaseName
from autoscaler.metering import Metering
from autoscaler.policies import PolicyBook
from autoscaler.queue import WakeQueue
from autoscaler.serve import serving
from autoscaler.upstream import NoUpstream, Poller
from metrics.clock import Clock, WallClock
from metrics.scrape import Scraper
from metrics.scrape_loop import ScrapeLoop, Scrapes
from metrics.telemetry import Telemetry, TelemetryConfig, set_up

if TYPE_CHECKING:
    from autoscaler.history import Backfill, Source
    from autoscaler.upstream import Source as UpstreamSource
    from metrics.prometheus import History

LEASE_NAME = "warmtide-controller"
# SIGTERM to exit within 5 s: the passes under way have 1.5, the last statuses what is then left of 3.5, the lease 1.
PASSES_END_S = 1.5
WRITTEN_S = 3.5
RELEASE_S = 1.0
SYNC_LOOK_S = 0.05
# A count of waiting requests that takes longer is soon asked for again; two days of history may take their time.
UPSTREAM_TIMEOUT_S = 2.0
HISTORY_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the controller was started."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None  # None: all
    identity: str
    home_namespace: str
    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    scrape_period_min_s: float = 0.0
    prometheus_url: str | None = None
    prometheus_token_file: Path | None = None
    prometheus_ca_file: Path | None = None
    otlp_endpoint: str | None = None
    caches: CacheOptions = field(default_factory=CacheOptions)


async def run(options: Options, stop: asyncio.Event) -> None:
    """Run until `stop` is set, then end in good order."""
    clock = WallClock()
    telemetry = set_up(TelemetryConfig(otlp_endpoint=options.otlp_endpoint))
    try:
        # The election has a connection and a budget of its own: a crowd of other requests must not cost us the lease.
        async with (
            KubeClient.from_config(options.kubeconfig, options.context, clock=clock) as client,
            KubeClient.from_config(options.kubeconfig, options.context, clock=clock) as lease_client,
            Scraper(clock) as scraper,
        ):
            client.on_answer = lease_client.on_answer = telemetry.api_answered
            connections = Connections(client=client, lease_client=lease_client, scraper=scraper)
            program = Program(options, clock, telemetry, connections)
            host, port = options.listen_host, options.listen_port
            async with serving(host, port, metrics=telemetry.exposition, unready=program.unready):
                await program.run(stop)
    finally:
        await asyncio.to_thread(telemetry.shutdown)


class Client(WatchClient, Api, Protocol):
    """The API as all parts together need it."""

    def server_ahead_s(self) -> float:
        """How far its clock is ahead of ours."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Connections:
    """What reaches out of the process."""

    client: Client
    lease_client: LeaseClient
    scraper: Scrapes
    history: "Source | None" = None  # None: as the options say
    upstream: "UpstreamSource | None" = None  # likewise
    list_model: List | None = None  # likewise


class Program:
    """All parts of one controller process."""

    def __init__(self, options: Options, clock: Clock, telemetry: Telemetry, connections: Connections) -> None:
        client = connections.client
        self._clock = clock
        self._telemetry = telemetry
        self._queue = WakeQueue(clock)
        self._cluster = Cluster(wake=self._queue.wake, table_changed=lambda: self._queue.wake(SWEEP))
        self._collector = Collector(clock, wake=self._queue.hurry, period_min_s=options.scrape_period_min_s)
        self._collector.on_failure = telemetry.scrape_failed
        self._scrapes = ScrapeLoop(connections.scraper, clock, self._collector.on_result)
        self._collector.hasten = self._scrapes.wake
        self._informers = informers_of(client, self._cluster, clock, options.namespace)
        for informer in self._informers:
            informer.on_relist = telemetry.relisted
        lease = LeaseName(namespace=options.home_namespace, name=LEASE_NAME, identity=options.identity)
        self._election = Election(connections.lease_client, lease, clock, self._lead)
        self._backfill = _backfill_of(options, connections, clock, self._queue)
        self._poller = _poller_of(options, connections, clock, self._queue)
        writer = Writer(client, self._election.may_write)
        world = World(
            cluster=self._cluster,
            collector=self._collector,
            scaler=Scaler(writer),
            publisher=Publisher(writer, self._cluster.scaled_services, options.identity),
            reports=Reports(clock),
            clock=clock,
            stale_for_s=self._stale_for_s,
            past=self._backfill or NoPast(),
            server_ahead_s=client.server_ahead_s,
            upstream=self._poller or NoUpstream(),
        )
        book = PolicyBook(self._cluster.policies, options.home_namespace)
        self._controller = Controller(world, book, self._queue, Metering(telemetry))
        telemetry.show_problems(self._controller.problems)
        hands = Hands(client=client, writer=writer, publisher=world.publisher, clock=clock)
        decided = self._controller.decision_of
        self._keeper = keeper_of(self._cluster, hands, decided, options.caches, connections.list_model)

    async def run(self, stop: asyncio.Event) -> None:
        """Everything at once, until stopped; a part that dies takes the process with it."""
        async with asyncio.TaskGroup() as parts:
            running = [parts.create_task(part) for part in self._parts()]
            if await self._is_synced_before(stop):
                await self._work_until(stop)
            for task in running:
                task.cancel()

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        parts = [informer.run() for informer in self._informers]
        parts += [self._scrapes.run(), self._collector.run(self._scrapes.set_targets)]
        if self._backfill is not None:
            parts.append(self._backfill.run())
        return parts

    async def _is_synced_before(self, stop: asyncio.Event) -> bool:
        """Wait for the caches: decisions on half of the pods would be wrong. False: stopped first."""
        while self.unready() and not stop.is_set():
            await self._clock.sleep(SYNC_LOOK_S)
        return not stop.is_set()

    async def _work_until(self, stop: asyncio.Event) -> None:
        """Take part in the election and run passes; at the end finish the passes, save, give the lease up."""
        async with asyncio.TaskGroup() as active:
            election = active.create_task(self._election.run())
            passes = active.create_task(self._controller.run())
            caches = active.create_task(self._keeper.run())
            polls = [active.create_task(self._poller.run())] if self._poller is not None else []
            await stop.wait()
            stopping_s = self._clock.now_s()
            log.info("stopping")
            caches.cancel()
            for task in polls:
                task.cancel()
            self._queue.close()
            await asyncio.wait([passes], timeout=PASSES_END_S)
            election.cancel()
            passes.cancel()
            await self._controller.last_words(within_s=stopping_s + WRITTEN_S - self._clock.now_s())
            await self._release()

    async def _release(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._election.release()
        except TimeoutError:
            log.warning("the lease was not released within %.0f s; it runs out by itself", RELEASE_S)

    def _lead(self, is_leading: bool) -> None:
        self._telemetry.leads(is_leading)
        if self._backfill is not None:
            self._backfill.start_over()
        if self._poller is not None:
            self._poller.start_over()
        self._controller.lead(is_leading)
        self._keeper.lead()

    def unready(self) -> str:
        """The kinds that are not yet listed."""
        missing = [informer.kind for informer in self._informers if not informer.synced]
        return f"not yet listed: {', '.join(missing)}" if missing else ""

    def _stale_for_s(self, now_s: float) -> float:
        """By what a scale-in relies on: pods, and the Deployments they belong to."""
        return max(i.stale_for_s(now_s) for i in self._informers if i.kind in (PODS.kind, DEPLOYMENTS.kind))


def _poller_of(options: Options, connections: Connections, clock: Clock, queue: WakeQueue) -> Poller | None:
    if options.prometheus_url is None:
        return None
    source = connections.upstream or _prometheus(options, clock, timeout_s=UPSTREAM_TIMEOUT_S)
    return Poller(source, clock, wake=queue.hurry)


def _backfill_of(options: Options, connections: Connections, clock: Clock, queue: WakeQueue) -> "Backfill | None":
    if options.prometheus_url is None:
        return None
    # The client drags in a tenth of our memory; most installations back-fill nothing.
    from autoscaler.history import Backfill

    source = connections.history or _prometheus(options, clock, timeout_s=HISTORY_TIMEOUT_S)
    return Backfill(source, clock, ready=queue.wake)


def _prometheus(options: Options, clock: Clock, *, timeout_s: float) -> "History":
    from metrics.prometheus import History, HistoryConfig

    config = HistoryConfig(
        url=options.prometheus_url or "",
        bearer_token_file=options.prometheus_token_file,
        ca_file=options.prometheus_ca_file,
        timeout_s=timeout_s,
    )
    return History(config, clock)
