"""PersistentVolumes and claims over published models, as `cacheops.provision` says, through the API.

A claim is owned by its ModelCache and goes with it; a volume has no owner in a namespace, so it is swept: what has our
label and nobody's ModelCache any more is deleted. Nothing needs a finalizer: the bytes are the agents', and the kubelet
keeps both objects while a pod mounts them.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from autoscaler.caching.values import Holding
from autoscaler.conditions import Condition
from autoscaler.errors import Conflict, NamespaceTerminating, NotFound
from autoscaler.kube.resources import PERSISTENT_VOLUME_CLAIMS, PERSISTENT_VOLUMES, Object, Resource
from autoscaler.kube.watch import WatchClient
from autoscaler.kube.writer import Writer
from cacheops.provision import OURS, Act, Change, ServedTree, changes
from metrics.clock import Clock

# Between two looks while nothing changed here: volumes are deleted by hand seldom.
PERIOD_S = 60.0

_OURS = ",".join(f"{name}={value}" for name, value in OURS.items())
_KINDS: Mapping[str, Resource] = {found.kind: found for found in (PERSISTENT_VOLUMES, PERSISTENT_VOLUME_CLAIMS)}
log = logging.getLogger(__name__)


class Volumes:
    """Keeps volumes and claims of ModelCaches that ask for them."""

    def __init__(self, client: WatchClient, writer: Writer, clock: Clock) -> None:
        self._client = client
        self._writer = writer
        self._clock = clock
        self._done: tuple[ServedTree, ...] | None = None
        self._due_s = 0.0
        self._told: dict[str, Condition] = {}

    def start_over(self) -> None:
        """Look afresh."""
        self._done = None

    async def keep(self, trees: Sequence[ServedTree], *, is_allowed: bool, has_labels: bool) -> Mapping[str, Condition]:
        """Bring them in line; a condition for each ModelCache that asks for one, by namespace/name."""
        if not is_allowed:
            self._done = None
            words = "the controller may not make volumes (manifests/components/model-volumes)"
            return {_name(tree): _off("VolumesOff", words) for tree in trees}
        if self._done != tuple(trees) or self._clock.now_s() >= self._due_s:
            self._told = await self._bring(trees, has_labels=has_labels)
            self._done, self._due_s = tuple(trees), self._clock.now_s() + PERIOD_S
        return self._told

    async def _bring(self, trees: Sequence[ServedTree], *, has_labels: bool) -> dict[str, Condition]:
        volumes = await self._ours(PERSISTENT_VOLUMES)
        claims = await self._ours(PERSISTENT_VOLUME_CLAIMS)
        claims += await self._made_by_hand(trees, claims)
        found: dict[str, list[Change]] = defaultdict(list)
        owners = {tree.volume_name: _name(tree) for tree in trees}
        for change in changes(trees, volumes, claims):
            found[owners.get(change.name, f"{change.namespace}/{change.name}")].append(change)
        told = {}
        for tree in trees:
            name = _name(tree)
            blind = tree.only_warm_nodes and not has_labels
            told[name] = _blind() if blind else await self._serve(tree, found.pop(name, ()))
            found.pop(name, None)
        for leftovers in found.values():
            for change in leftovers:
                await self._apply(change)
        return told

    async def _serve(self, tree: ServedTree, wanted: Iterable[Change]) -> Condition:
        for change in wanted:
            if change.act is Act.REFUSE:
                words = f"{change.kind} {change.name}: {change.why.value}: {change.detail}"
                return _off(f"Volume{change.why.value}", words)
            await self._apply(change)
        words = f"PersistentVolumeClaim {tree.cache} on volume {tree.volume_name}"
        return Condition(type="Volume", status="True", reason="VolumeMade", message=words)

    async def _apply(self, change: Change) -> None:
        """One change. What another writer was quicker with is met at the next look."""
        resource = _KINDS[change.kind]
        path = resource.path(change.namespace, change.name)
        log.info("%s %s: %s (%s)", change.kind, change.name, change.act.value, change.why.value)
        try:
            match change.act:
                case Act.CREATE:
                    await self._writer.create(resource.path(change.namespace), change.body)
                case Act.ADOPT | Act.RESIZE:
                    await self._writer.patch(path, change.body)
                case Act.DELETE:
                    await self._writer.delete(path)
                case Act.REFUSE:
                    log.warning("%s %s: %s: %s", change.kind, change.name, change.why.value, change.detail)
        except NamespaceTerminating:
            return  # the ModelCache goes, too
        except (Conflict, NotFound) as exc:
            log.info("%s %s: %s", change.kind, change.name, exc)
            self._done = None

    async def _ours(self, resource: Resource) -> list[Object]:
        pages = self._client.pages(resource.path(), labels=_OURS)
        items = [item async for page, _version in pages for item in page]
        return [item for item in items if OURS.items() <= (item["metadata"].get("labels") or {}).items()]

    async def _made_by_hand(self, trees: Sequence[ServedTree], ours: Sequence[Object]) -> list[Object]:
        """Claims of the right name without our label."""
        known = {(claim["metadata"]["namespace"], claim["metadata"]["name"]) for claim in ours}
        found = []
        for tree in trees:
            if (tree.namespace, tree.cache) not in known:
                try:
                    found.append(await self._writer.get(PERSISTENT_VOLUME_CLAIMS.path(tree.namespace, tree.cache)))
                except NotFound:
                    continue
        return found


def served_tree(holding: Holding, root: str) -> ServedTree:
    """What a ModelCache serves."""
    task = holding.task
    return ServedTree(
        namespace=task.namespace,
        cache=task.name,
        cache_uid=task.uid,
        key=holding.key,
        size_bytes=holding.resolved.size_bytes,
        root=root,
        node_selector=task.node_selector,
        storage_class=task.storage_class,
        only_warm_nodes=task.only_warm_nodes,
    )


def _name(tree: ServedTree) -> str:
    return f"{tree.namespace}/{tree.cache}"


def _off(reason: str, message: str) -> Condition:
    return Condition(type="Volume", status="False", reason=reason, message=message)


def _blind() -> Condition:
    words = "spec.volume.onlyWarmNodes goes by node labels, which are off (manifests/components/model-labels)"
    return _off("LabelsOff", words)
