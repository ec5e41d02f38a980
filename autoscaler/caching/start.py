"""The keeper of model caches with its parts, from how the controller was started."""

from dataclasses import dataclass, field

from autoscaler.caching.gather import Decided
from autoscaler.caching.keeper import Keeper, Tools
from autoscaler.caching.resolve import List, Resolver, listing
from autoscaler.caching.tell import Teller
from autoscaler.caching.volumes import Volumes
from autoscaler.cluster import Cluster
from autoscaler.kube.publish import Publisher
from autoscaler.kube.watch import WatchClient
from autoscaler.kube.writer import Writer
from cacheops.sources import SourceSettings
from metrics.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """What an administrator sets for all model caches."""

    sources: SourceSettings = field(default_factory=SourceSettings)
    quota_bytes: int | None = None  # of each node that is in no LocalModelNodeGroup; None: the disk's watermarks
    root: str = "/var/lib/warmtide"  # the agents' folder on the nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Hands:
    """What reaches the API."""

    client: WatchClient
    writer: Writer
    publisher: Publisher
    clock: Clock


def keeper_of(
    cluster: Cluster, hands: Hands, decided: Decided, options: CacheOptions, list_model: List | None
) -> Keeper:
    """A keeper that the cluster's changes wake."""
    clock = hands.clock
    resolver = Resolver(list_model or listing(options.sources, clock), clock)
    tools = Tools(
        resolver=resolver,
        teller=Teller(hands.writer, hands.publisher, clock),
        volumes=Volumes(hands.client, hands.writer, clock),
        quota_bytes=options.quota_bytes,
        root=options.root,
    )
    keeper = Keeper(cluster, tools, decided, clock)
    resolver.done = cluster.caches_changed = keeper.wake
    return keeper
