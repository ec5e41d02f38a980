"""Since when a node is told to hold a model: by memory, else as an earlier leader wrote it down."""

from typing import Any

import pytest

from autoscaler.caching.documents import told_annotation
from autoscaler.caching.orders import Order
from autoscaler.caching.placing import assigned_since
from autoscaler.caching.values import NodeSeen
from autoscaler.caching.views import TOLD_ANNOTATION, order_view
from cacheops.model import storage_key
from cacheops.place import HOLD_S
from cacheops.tasks import NodeTask

NOW_S = 1_760_000_000.0
URI = "hf://org/alpha"
LATELY = NOW_S - 100.0


def told(text: str | None, key: str) -> NodeSeen:
    """A node that is told to hold a model."""
    model: dict[str, Any] = {"key": key, "uri": URI, "digest": "a" * 64, "bytes": 1}
    annotations = {} if text is None else {TOLD_ANNOTATION: text}
    order = order_view({"metadata": {"name": "n", "annotations": annotations}, "spec": {"models": [model]}})
    return NodeSeen(name="n", uid="n", labels={}, order=order)


@pytest.mark.parametrize(
    ("text", "since_s"),
    [
        pytest.param('{"KEY": "2025-10-09T08:51:40Z"}', LATELY, id="lately"),
        pytest.param("{}", 0.0, id="long ago: written down, and left out"),
        pytest.param('{"KEY": "2099-01-01T00:00:00Z"}', NOW_S, id="in the future: a clock was wrong"),
        pytest.param(None, NOW_S, id="by a controller that wrote nothing down"),
        pytest.param("no json", NOW_S, id="not readable"),
        pytest.param("[]", NOW_S, id="not an object"),
        pytest.param('{"KEY": 5}', NOW_S, id="not a time"),
        pytest.param("[" * 100_000, NOW_S, id="deep"),
    ],
)
def test_a_new_leader_goes_by_what_the_old_one_wrote_down(text: str | None, since_s: float) -> None:
    key = storage_key(URI)
    node = told(text and text.replace("KEY", key), key)

    assert assigned_since([node], {}, now_s=NOW_S) == {("n", key): since_s}
    assert assigned_since([node], {("n", key): 7.0}, now_s=NOW_S) == {("n", key): 7.0}


def test_only_what_is_still_held_is_written_down() -> None:
    order = Order(node="n", task=NodeTask(), told_at_s={"old": NOW_S - HOLD_S, "new": LATELY})

    assert told_annotation(order, NOW_S) == {TOLD_ANNOTATION: '{"new": "2025-10-09T08:51:40Z"}'}
