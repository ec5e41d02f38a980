"""Which nodes hold which trees, and since when, kept up to date report by report. Pure."""

from collections.abc import Mapping

from autoscaler.caching.values import NodeOrder, TreeSeen

_NOWHERE: Mapping[str, float] = {}
# What a node held when we first heard of it was there before: of a start-up under way it counts as having been there.
LONG_AGO_S = 0.0


class Published:
    """Nodes by key and digest; since when is by the agent's own clock."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, str], dict[str, float]] = {}
        self._digests: dict[str, set[str]] = {}

    def changed(self, name: str, before: NodeOrder | None, after: NodeOrder | None) -> None:
        """A node's report came, changed or went."""
        old, new = _trees(before), _trees(after)
        for pair in old.keys() - new.keys():
            self._nodes[pair].pop(name, None)
            if not self._nodes[pair]:
                del self._nodes[pair]
                self._digests[pair[0]].discard(pair[1])
        for pair in new.keys() - old.keys():
            since_s = LONG_AGO_S if before is None or before.heard_at_s is None or after is None else after.heard_at_s
            self._nodes.setdefault(pair, {})[name] = since_s or LONG_AGO_S
            self._digests.setdefault(pair[0], set()).add(pair[1])

    def nodes(self, key: str, digest: str = "") -> Mapping[str, float]:
        """Node → since when it holds a model; at any revision where no digest is named."""
        if digest:
            return self._nodes.get((key, digest), _NOWHERE)
        found: dict[str, float] = {}
        for each in self._digests.get(key, ()):
            found |= self._nodes[key, each]
        return found


def _trees(order: NodeOrder | None) -> dict[tuple[str, str], TreeSeen]:
    trees = order.trees.values() if order is not None else ()
    return {(tree.key, tree.digest): tree for tree in trees if tree.is_published}
