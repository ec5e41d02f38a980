"""What a namespace's ResourceQuotas leave a service."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.kube.views import deployment_view, pod_view
from autoscaler.quota import budget_replicas, quota_view

GPU = "requests.nvidia.com/gpu"
CONTAINER = {"name": "vllm", "resources": {"limits": {"nvidia.com/gpu": "2"}}}
DEPLOYMENT = deployment_view(
    {"metadata": {"name": "llm"}, "spec": {"replicas": 2, "template": {"spec": {"containers": [CONTAINER]}}}}
)
POD = pod_view({"metadata": {"name": "a"}})


def quota(hard: dict[str, str], used: dict[str, str], **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": "q"}, "spec": {"hard": hard} | spec, "status": {"hard": hard, "used": used}}


@pytest.mark.parametrize(
    ("quotas", "pods", "budget"),
    [
        pytest.param([quota({GPU: "10"}, {GPU: "4"})], 2, 5, id="what is free, in pods of two"),
        pytest.param([quota({GPU: "10"}, {GPU: "5"})], 2, 4, id="half a pod is none"),
        pytest.param([quota({GPU: "10"}, {GPU: "4"}), quota({GPU: "7"}, {GPU: "4"})], 2, 3, id="the tightest counts"),
        pytest.param([quota({GPU: "2"}, {GPU: "4"})], 2, 2, id="lowered below what runs: nothing shrinks"),
        pytest.param([quota({GPU: "4"}, {GPU: "4"})], 0, 2, id="the quota counts pods that are not seen yet"),
        pytest.param([quota({GPU: "4"}, {})], 0, 2, id="just made"),
        pytest.param([quota({"requests.cpu": "4"}, {})], 2, None, id="not about GPUs"),
        pytest.param([quota({"requests.amd.com/gpu": "4"}, {})], 2, None, id="about other GPUs"),
        pytest.param([quota({GPU: "4"}, {}, scopes=["BestEffort"])], 2, None, id="about some pods only"),
        pytest.param([], 2, None, id="none"),
    ],
)
def test_the_budget_is_what_the_quotas_leave(quotas: Sequence[dict[str, Any]], pods: int, budget: int | None) -> None:
    views = [view for each in quotas if (view := quota_view(each)) is not None]

    assert budget_replicas(DEPLOYMENT, [POD] * pods, views) == budget


def test_pods_on_their_way_out_hold_quota_but_are_no_replicas() -> None:
    view = quota_view(quota({GPU: "6"}, {GPU: "6"}))
    assert view is not None
    leaving = replace(POD, is_terminating=True)

    assert budget_replicas(replace(DEPLOYMENT, replicas=1), [POD, leaving, leaving], [view]) == 1
