"""The keeper of model caches with its parts, from how the controller was started."""

from dataclasses import dataclass, field

from autoscaler.caching.gather import Decided
from autoscaler.caching.keeper import Keeper
from autoscaler.caching.resolve import List, Resolver, listing
from autoscaler.caching.tell import Teller
from autoscaler.cluster import Cluster
from cacheops.sources import SourceSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheOptions:
    """What an administrator sets for all model caches."""

    sources: SourceSettings = field(default_factory=SourceSettings)
    quota_bytes: int | None = None  # of each node that is in no LocalModelNodeGroup; None: the disk's watermarks


def keeper_of(
    cluster: Cluster, teller: Teller, decided: Decided, options: CacheOptions, list_model: List | None
) -> Keeper:
    """A keeper that the cluster's changes wake."""
    resolver = Resolver(list_model or listing(options.sources, teller.clock), teller.clock)
    keeper = Keeper(cluster, resolver, teller, decided, options.quota_bytes)
    resolver.done = cluster.caches_changed = keeper.wake
    return keeper
