"""Laws of the caches' core, for any claims, services, nodes and reports:

* of one source all nodes are told one digest, that of the oldest ModelCache that is resolved;
* a label stands only on a tree that is whole, at the revision in force, and that the agent knows to be labelled;
* done once, nothing is left to do: the same world again is told the same;
* what is told can be read back as it was meant.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from autoscaler.caching.claims import claims_of
from autoscaler.caching.documents import node_model_cache
from autoscaler.caching.orders import Order, is_urgent, label_of, label_value, model_labels, orders_of
from autoscaler.caching.placing import assigned_since, plan_places
from autoscaler.caching.values import Holding, ModelUse, NodeOrder, NodeSeen, Phase, Resolved, TreeSeen
from autoscaler.caching.views import order_view
from cacheops.model import ModelRef, storage_key
from cacheops.tasks import CacheTask, NodeTask

URIS = ("hf://org/alpha", "hf://org/beta", "s3://bucket/gamma")
KEYS = [storage_key(uri) for uri in URIS]
DIGESTS = ("a" * 64, "b" * 64)
NODES = ("n0", "n1", "n2")
NOW_S = 1_000_000.0
LAW = settings(max_examples=40, deadline=None)


@st.composite
def holdings(draw: st.DrawFn) -> Holding:
    name = draw(st.sampled_from(["one", "two", "three", "four"]))
    digest = draw(st.sampled_from(DIGESTS))
    task = CacheTask(
        namespace=draw(st.sampled_from(["team-a", "team-b"])),
        name=name,
        uid=name,
        ref=ModelRef(uri=draw(st.sampled_from(URIS))),
        copies_min=draw(st.integers(0, 3)),
        copies_max=draw(st.sampled_from([None, 3])),
        is_pinned=draw(st.booleans()),
        ttl_s=draw(st.sampled_from([None, 600])),
    )
    resolved = Resolved(
        request="r",
        revision=digest[:8],
        digest=digest,
        files=1,
        size_bytes=draw(st.integers(1, 40)),
        unsworn=0,
        at_s=NOW_S - draw(st.sampled_from([0.0, 10_000.0])),
    )
    return Holding(task=task, created_at_s=draw(st.floats(0, 100)), resolved=resolved)


@st.composite
def uses(draw: st.DrawFn) -> ModelUse:
    replicas = draw(st.integers(0, 4))
    return ModelUse(
        service="team-a/llm",
        key=draw(st.sampled_from(KEYS)),
        replicas=replicas,
        expected=replicas + 1,
        gpus=draw(st.integers(0, 4)),
        nodes=frozenset(draw(st.sets(st.sampled_from(NODES)))),
        running={node: 1 for node in draw(st.sets(st.sampled_from(NODES), max_size=2))} if replicas else {},
        is_growing=draw(st.booleans()),
    )


@st.composite
def trees(draw: st.DrawFn) -> TreeSeen:
    return TreeSeen(
        key=draw(st.sampled_from(KEYS)),
        phase=draw(st.sampled_from(list(Phase))),
        digest=draw(st.sampled_from(DIGESTS)),
        size_bytes=draw(st.integers(1, 40)),
        fetch_s=draw(st.sampled_from([None, 12.3456])),
        used_at_s=draw(st.sampled_from([None, NOW_S - 100.0, NOW_S - 10_000.0])),
        leases=draw(st.integers(0, 1)),
    )


@st.composite
def nodes(draw: st.DrawFn, name: str) -> NodeSeen:
    found = draw(st.lists(trees(), max_size=3, unique_by=lambda tree: tree.key))
    labels = {
        label_of(key): draw(st.sampled_from([d[:8] for d in DIGESTS])) for key in draw(st.sets(st.sampled_from(KEYS)))
    }
    order = NodeOrder(
        name=name,
        version="1",
        task=NodeTask(),
        heard_at_s=draw(st.sampled_from([None, NOW_S, NOW_S - 3600.0])),
        limit_bytes=draw(st.integers(0, 100)),
        trees={tree.key: tree for tree in found},
    )
    return NodeSeen(
        name=name,
        uid=name,
        labels={"zone": "z"} | labels,
        gpus=8,
        free_gpus=draw(st.integers(0, 8)),
        is_usable=draw(st.booleans()),
        quota_bytes=draw(st.sampled_from([None, 50])),
        order=draw(st.sampled_from([order, order, None])),
    )


@dataclass
class World:
    """What the API server holds, and what the agents have read of it."""

    holdings: list[Holding]
    uses: list[ModelUse]
    nodes: dict[str, NodeSeen]
    since: Mapping[tuple[str, str], float]

    def orders(self, now_s: float = NOW_S) -> tuple[Order, ...]:
        claims, _ = claims_of(self.holdings)
        seen = list(self.nodes.values())
        self.since = assigned_since(seen, self.since, now_s=now_s)
        plan = plan_places(claims, self.uses, seen, self.since, now_s=now_s)
        return orders_of(plan, claims, self.uses, seen, has_labels=True)

    def labels_off(self, order: Order) -> None:
        node = self.nodes[order.node]
        self._label(node, {k: v for k, v in node.labels.items() if k not in order.labels_off})

    def tell(self, order: Order) -> None:
        node = self.nodes[order.node]
        before = node.order or NodeOrder(name=node.name, version="1", task=None)
        task = before.task or NodeTask()
        if before.task is None or replace(task, generation=0) != order.task:
            generation = task.generation + 1
            self.nodes[node.name] = replace(
                node, order=replace(before, task=replace(order.task, generation=generation))
            )

    def labels_on(self, order: Order) -> None:
        node = self.nodes[order.node]
        self._label(node, dict(node.labels) | dict(order.labels_on))

    def agents_read(self) -> None:
        for name, node in self.nodes.items():
            if node.order is not None and node.order.task is not None:
                read = replace(node.order, observed_generation=node.order.task.generation)
                self.nodes[name] = replace(node, order=read)

    def _label(self, node: NodeSeen, labels: Mapping[str, str]) -> None:
        self.nodes[node.name] = replace(node, labels=labels)


worlds = st.builds(
    lambda held, used, *seen: World(held, used, {node.name: node for node in seen}, {}),
    st.lists(holdings(), max_size=5, unique_by=lambda holding: (holding.task.namespace, holding.task.name)),
    st.lists(uses(), max_size=3),
    *(nodes(name) for name in NODES),
)


@given(worlds)
@LAW
def test_of_one_source_every_node_is_told_one_digest(world: World) -> None:
    claims, refused = claims_of(world.holdings)
    told: dict[str, set[str]] = {}
    for order in world.orders():
        for wish in order.task.wishes:
            told.setdefault(wish.tree.key, set()).add(wish.tree.digest)

    assert all(digests == {claims[key].holder.resolved.digest} for key, digests in told.items())
    assert not {holding.name for claim in claims.values() for holding in claim.all} & refused.keys()


@given(worlds, worlds)
@LAW
def test_a_label_never_stands_where_the_agent_may_evict(first: World, second: World) -> None:
    """Also between the writes of a pass, and when the world is another one at the next pass."""
    world = first
    for node in world.nodes.values():
        world.nodes[node.name] = replace(node, labels={"zone": "z"})
    for scene in (first, second, first):
        for name, node in scene.nodes.items():
            now = world.nodes[name]
            kept = (
                now.order
                and node.order
                and replace(now.order, trees=node.order.trees, heard_at_s=node.order.heard_at_s)
            )
            world.nodes[name] = replace(node, labels=now.labels, order=kept or now.order)
        world.holdings, world.uses = scene.holdings, scene.uses
        for _ in range(2):
            for order in world.orders():
                world.labels_off(order)
                check_labels(world)
                world.tell(order)
                check_labels(world)
                world.labels_on(order)
                check_labels(world)
            world.agents_read()
            check_labels(world)


def check_labels(world: World) -> None:
    for node in world.nodes.values():
        task = node.order.task if node.order else None
        marked = {label_of(wish.tree.key) for wish in task.wishes if wish.is_labelled} if task else set()
        assert model_labels(node.labels).keys() <= marked, node


@given(worlds)
@LAW
def test_a_label_says_the_revision_of_a_whole_tree(world: World) -> None:
    claims, _ = claims_of(world.holdings)
    for _ in range(3):
        for order in world.orders():
            world.labels_off(order)
            world.tell(order)
            world.labels_on(order)
        world.agents_read()

    for node in world.nodes.values():
        trees_there = node.order.trees if node.order else {}
        for name, value in model_labels(node.labels).items():
            key = name.removeprefix(label_of(""))
            resolved = claims[key].holder.resolved
            assert (trees_there[key].phase, trees_there[key].digest) == (Phase.READY, resolved.digest)
            assert value == label_value(resolved.revision, resolved.digest)


@given(worlds)
@LAW
def test_done_once_nothing_is_left_to_do(world: World) -> None:
    for _ in range(3):
        for order in world.orders():
            world.labels_off(order)
            world.tell(order)
            world.labels_on(order)
        world.agents_read()

    for order in world.orders(NOW_S + 60.0):
        held = world.nodes[order.node].order
        assert held is not None
        assert held.task is not None
        assert not order.labels_off
        assert not order.labels_on
        assert not is_urgent(order.task, held.task)


@given(worlds)
@LAW
def test_what_is_told_is_read_back_as_it_was_meant(world: World) -> None:
    for order in world.orders():
        document = node_model_cache(order, world.nodes[order.node], NOW_S)

        assert order_view(document).task == order.task
        assert not {wish.tree.key for wish in order.task.wishes} & set(order.task.evict)
