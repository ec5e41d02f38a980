"""Where a pod may run, and the scheduler's words for why it may not."""

from typing import Any

import pytest

from simulations.cluster.workloads.nodes import NodeSpec, node_object
from simulations.cluster.workloads.placement import (
    Obstacle,
    allocatable,
    no_room_message,
    obstacle,
    preference,
    requests,
    thousandths,
    wish_of,
)

NODE = node_object(NodeSpec(name="a", gpus=2, gpu_product="H100", cpus=4, labels={"zone": "west", "rank": "3"}))
NO_MATCH = "node(s) didn't match Pod's node affinity/selector"


def pod(limits: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
    return {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {"limits": limits or {}}}], **spec}}


def required(key: str, operator: str, *values: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}}


def against(one: dict[str, Any], node: dict[str, Any] = NODE, **free: int) -> list[str]:
    found = obstacle(wish_of(one), node, allocatable(node) | free)
    return list(found.reasons) if found else []


QUANTITIES = {
    "2": 2000,
    3: 3000,
    "250m": 250,
    "1.5": 1500,
    "1k": 10**6,
    "1Ki": 1_024_000,
    "2G": 2 * 10**12,
    "1e3": 10**6,
}
QUANTITIES |= {"0": 0, "512Gi": 512 * 2**30 * 1000, "1E": 10**21, "1Ei": 2**60 * 1000}


@pytest.mark.parametrize(("quantity", "expected"), QUANTITIES.items(), ids=map(str, QUANTITIES))
def test_quantities_are_exact(quantity: str | int, expected: int) -> None:
    assert thousandths(quantity) == expected


@pytest.mark.parametrize("text", ["", "many", "1 Gi", "Gi", "1KiB"])
def test_what_is_no_quantity_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="is not a Kubernetes quantity"):
        thousandths(text)


def test_requests_are_the_sum_of_containers_or_the_largest_init_container() -> None:
    spec = {
        "containers": [
            {"resources": {"limits": {"cpu": "2", "nvidia.com/gpu": "1"}, "requests": {"cpu": "1"}}},
            {"resources": {"requests": {"cpu": "500m"}}},
            {},
        ],
        "initContainers": [{"resources": {"requests": {"cpu": "3"}}}],
    }

    assert requests({"spec": spec}) == {"cpu": 3000, "nvidia.com/gpu": 1000, "pods": 1000}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        pytest.param(pod({"nvidia.com/gpu": "2"}), [], id="all of the GPUs"),
        pytest.param(pod({"nvidia.com/gpu": "3"}), ["Insufficient nvidia.com/gpu"], id="one GPU too many"),
        pytest.param(pod({"amd.com/gpu": "1"}), ["Insufficient amd.com/gpu"], id="what the node does not have"),
        pytest.param(
            pod({"cpu": "5", "nvidia.com/gpu": "3"}), ["Insufficient cpu", "Insufficient nvidia.com/gpu"], id="both"
        ),
        pytest.param(pod(nodeSelector={"zone": "west"}), [], id="selector matches"),
        pytest.param(pod(nodeSelector={"zone": "east"}), [NO_MATCH], id="selector does not match"),
        pytest.param(pod(affinity=required("nvidia.com/gpu.product", "In", "H100", "A100")), [], id="In"),
        pytest.param(pod(affinity=required("nvidia.com/gpu.product", "In", "L4")), [NO_MATCH], id="not In"),
        pytest.param(pod(affinity=required("zone", "NotIn", "west")), [NO_MATCH], id="NotIn"),
        pytest.param(pod(affinity=required("zone", "Exists")), [], id="Exists"),
        pytest.param(pod(affinity=required("zone", "DoesNotExist")), [NO_MATCH], id="DoesNotExist"),
        pytest.param(pod(affinity=required("rank", "Gt", "2")), [], id="Gt"),
        pytest.param(pod(affinity=required("rank", "Lt", "3")), [NO_MATCH], id="Lt"),
    ],
)
def test_filters_speak_as_the_real_scheduler(one: dict[str, Any], expected: list[str]) -> None:
    assert against(one) == expected


def test_an_unknown_operator_is_an_error() -> None:
    with pytest.raises(ValueError, match="Near"):
        against(pod(affinity=required("zone", "Near", "west")))


@pytest.mark.parametrize(
    ("toleration", "expected"),
    [
        pytest.param({"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}, [], id="equal"),
        pytest.param({"key": "gpu", "operator": "Exists"}, [], id="exists"),
        pytest.param({"operator": "Exists"}, [], id="everything"),
        pytest.param({"key": "gpu", "value": "no"}, ["node(s) had untolerated taint(s)"], id="other value"),
        pytest.param(
            {"key": "gpu", "operator": "Exists", "effect": "NoExecute"},
            ["node(s) had untolerated taint(s)"],
            id="other effect",
        ),
    ],
)
def test_taints_need_a_toleration(toleration: dict[str, str], expected: list[str]) -> None:
    taint = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
    tainted = node_object(NodeSpec(name="a", taints=(taint,)))

    assert against(pod(tolerations=[toleration]), tainted) == expected


def test_a_taint_that_only_prefers_keeps_nobody_away() -> None:
    tainted = node_object(NodeSpec(name="a", taints=({"key": "old", "effect": "PreferNoSchedule"},)))

    assert against(pod(), tainted) == []


def test_cordoned_and_full_nodes_say_so() -> None:
    cordoned = {**NODE, "spec": {"unschedulable": True}}

    assert against(pod(), cordoned) == ["node(s) were unschedulable"]
    assert against(pod(), NODE, pods=0) == ["Too many pods"]


def test_preferred_terms_add_their_weights() -> None:
    expressions = [{"key": "zone", "operator": "In", "values": ["west"]}]
    terms = [
        {"weight": 80, "preference": {"matchExpressions": expressions}},
        {"weight": 7, "preference": {"matchExpressions": [{"key": "rank", "operator": "Exists"}]}},
        {"weight": 100, "preference": {"matchExpressions": [{"key": "none", "operator": "Exists"}]}},
    ]
    wish = wish_of(pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}))

    assert preference(wish, NODE) == 87


def test_the_message_counts_reasons_and_says_whether_preemption_would_help() -> None:
    full = Obstacle(("Insufficient nvidia.com/gpu",), is_final=False)
    small = Obstacle(("Insufficient cpu", "Insufficient nvidia.com/gpu"))

    assert no_room_message([full, small, full]) == (
        "0/3 nodes are available: 1 Insufficient cpu, 3 Insufficient nvidia.com/gpu. no new claims to deallocate, "
        "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, "
        "2 No preemption victims found for incoming pod."
    )
    assert no_room_message([]) == "no nodes available to schedule pods"


@pytest.mark.parametrize(("gpus", "is_final"), [("2", False), ("3", True)], ids=["fits an empty node", "fits none"])
def test_a_shortage_is_final_where_even_an_empty_node_is_too_small(gpus: str, is_final: bool) -> None:
    found = obstacle(wish_of(pod({"nvidia.com/gpu": gpus})), NODE, allocatable(NODE) | {"nvidia.com/gpu": 0})

    assert found == Obstacle(("Insufficient nvidia.com/gpu",), is_final=is_final)


def test_a_node_with_less_than_nothing_cannot_be() -> None:
    with pytest.raises(ValueError, match="gpus must be ≥ 0, got -1"):
        NodeSpec(name="a", gpus=-1)
