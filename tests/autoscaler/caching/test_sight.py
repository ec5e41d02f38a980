"""What a service knows of its weights: what a start finds, who must not go."""

import pytest

from autoscaler.caching.sight import ModelSight
from autoscaler.kube.views import pod_view
from autoscaler.policy.types import Tier


def pod(name: str, created: str, *, is_ready: bool = True):
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": created}] if is_ready else []
    return pod_view({"metadata": {"name": name, "creationTimestamp": created}, "status": {"conditions": conditions}})


PODS = (
    pod("starting", "2026-11-20T10:00:00Z", is_ready=False),
    pod("young", "2026-11-20T12:00:00Z"),
    pod("old", "2026-11-20T11:00:00Z"),
)


@pytest.mark.parametrize(
    ("sight", "kept"),
    [
        pytest.param(ModelSight(key="k", is_pinned=True), {"old"}, id="pinned, on no node"),
        pytest.param(ModelSight(key="k", is_pinned=True, since_s={"n": 0.0}), {"old"}, id="its only node is away"),
        pytest.param(ModelSight(key="k", is_pinned=True, usable=frozenset({"n"})), set(), id="a node holds it"),
        pytest.param(ModelSight(key="k"), set(), id="not pinned"),
        pytest.param(ModelSight(key="k", is_pinned=True, elder=(0.0, "b", "x")), set(), id="another service has it"),
        pytest.param(ModelSight(key="k", is_pinned=True, elder=(2e9, "b", "x")), {"old"}, id="another's is younger"),
    ],
)
def test_the_last_copy_of_a_pinned_model_is_its_oldest_replica_where_no_node_holds_it(
    sight: ModelSight, kept: set[str]
) -> None:
    assert sight.last_copies(PODS) == kept


@pytest.mark.parametrize(
    ("node", "created_at_s", "tier"),
    [
        pytest.param("warm", 100.0, Tier.WARM, id="there just in time"),
        pytest.param("warm", 99.0, Tier.COLD, id="came while it started"),
        pytest.param("other", 500.0, Tier.COLD, id="elsewhere"),
        pytest.param(None, 500.0, Tier.COLD, id="on no node yet"),
    ],
)
def test_a_start_is_warm_when_the_weights_were_there_before_it(
    node: str | None, created_at_s: float, tier: Tier
) -> None:
    assert ModelSight(key="k", since_s={"warm": 100.0}).tier_on(node, created_at_s) is tier
