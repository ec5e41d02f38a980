"""Formulas over triggers as llm-d's guides write them, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.imports import import_policy
from simulations.imports.errors import FormulaError
from simulations.imports.formula import parse_formula
from simulations.policies import Bounds
from simulations.policies.keda import discounted, slo_replicas

GUARD = """\
let queue_per_replica = 1;
let running_per_replica = 16;
let demand = max(queue / queue_per_replica, running / running_per_replica);
demand <= replicas
? demand
: max(demand - (pending ?? 0), replicas)
"""
SLO = """\
let credit = ready > 0 && ready < n ? ready / n : 1;
s > 0.55 ? n + ceil(n * (s * credit / 0.55 - 1)) : s < 0.40 ? n - floor(n * (1 - s / 0.40)) : n
"""
OBJECT = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: guard}
spec:
  scaleTargetRef: {name: llama}
  minReplicaCount: 1
  maxReplicaCount: 8
  advanced:
    horizontalPodAutoscalerConfig:
      behavior: {scaleUp: {stabilizationWindowSeconds: 0}}
    scalingModifiers:
      formula: "let demand = max(queue, running / 16); demand <= n ? demand : max(demand - pending, n)"
      target: "1"
  triggers:
    - {type: prometheus, name: queue, metadata: {threshold: "1", query: sum(llm_d_epp_flow_control_queue_size)}}
    - {type: prometheus, name: running, metadata: {threshold: "16", query: sum(llm_d_epp_request_running)}}
    - {type: prometheus, name: n, metadata: {threshold: "1", query: max(kube_deployment_status_replicas)}}
    - type: prometheus
      name: pending
      metadata: {threshold: "1", query: "max(kube_deployment_status_replicas_unavailable{deployment='llama'})"}
"""


@given(
    queue=st.integers(0, 50), running=st.integers(0, 200), pending=st.none() | st.integers(0, 5), n=st.integers(1, 9)
)
def test_llm_ds_guard_is_the_law_of_its_policy(queue: int, running: int, pending: int | None, n: int) -> None:
    formula = parse_formula(GUARD, ("queue", "running", "pending", "replicas"))

    found = formula({"queue": queue, "running": running, "pending": pending, "replicas": n})

    assert found == pytest.approx(discounted(max(queue, running / 16), pending=pending or 0, replicas=n))


@given(saturation=st.floats(0, 2), n=st.integers(1, 9), ready=st.integers(0, 9))
def test_llm_ds_slo_law_is_the_law_of_its_policy(saturation: float, n: int, ready: int) -> None:
    formula = parse_formula(SLO, ("s", "n", "ready"))

    found = formula({"s": saturation, "n": n, "ready": min(ready, n)})

    assert found == slo_replicas(saturation, provisioned=n, ready=min(ready, n))


def test_a_scaled_object_with_a_formula_scales_on_its_composite() -> None:
    policy = import_policy(OBJECT, Bounds(low=1, high=16)).policy
    sample = PodSignals(observed_at_s=0.0, window_s=15.0, running_requests=32.0, waiting_requests=3.0)
    ready = PodSeen(name="a", phase=PodPhase.READY, created_at_s=0.0, signals=sample)
    starting = PodSeen(name="b", phase=PodPhase.STARTING, created_at_s=0.0)

    alone = policy.wish(Observation(service="ns/a", replicas=1, pods=(ready,)), 0.0)
    joined = policy.wish(Observation(service="ns/a", replicas=2, pods=(ready, starting)), 15.0)

    assert alone is not None
    assert alone.reason == "composite asks for 3"  # max(3, 32 / 16)
    assert joined is not None
    assert joined.reason == "composite asks for 2"  # 3 less the one that starts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3 - 4 / 2", 5.0),
        ("(1 + 2) * 3 % 4", 1.0),
        ("-a + 10", 3.0),
        ("a > 5 and not (a == 6) ? 1 : 0", 1.0),
        ("a >= 7 || a / 0 > 1 ? 1 : 0", 1.0),
        ("a < 7 && a / 0 > 1 ? 1 : 0", 0.0),
        ("a / 0 > 1 ? 1 : 0", None),
        ("missing ?? a", 7.0),
        ("missing + 1", None),
        ("nil ?? missing ?? 2", 2.0),
        ("a / 0", None),
        ("ceil(1e300 * 1e300) + 1", None),
        ("min(a, 3, 5) + max(a)", 10.0),
        ("round(a / 2) + abs(-1) + int(2.9) + float(1)", 8.0),
    ],
)
def test_a_formula_gives_the_number_that_kedas_would(text: str, value: float | None) -> None:
    assert parse_formula(text, ("a", "missing"))({"a": 7.0, "missing": None}) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'more' is expected where 'the end' is"),
        ("b + 1", "'b' is no trigger's name; these are: a"),
        ("sum(a)", "function 'sum' is not supported; these are: max, min"),
        ("ceil(a, 2)", "ceil takes one argument, got 2"),
        ("a ? 1", "':' is expected where 'the end' is"),
        ("let x = 1 x", "';' is expected where 'x' is"),
        ("1e999", "1e999 is more than a metric can be"),
        ("a a", "'a' is not expected there"),
        ("a @ 2", "'@ 2' is not understood"),
        ("(" * 60 + "1" + ")" * 60, "more than 50 parentheses"),
        ("1" * 10_001, "a formula of 10001 characters"),
    ],
)
def test_what_is_not_understood_is_said(text: str, message: str) -> None:
    with pytest.raises(FormulaError, match=message):
        parse_formula(text, ("a",))


PIECES = (
    "a",
    "nil",
    "1",
    "0",
    "+",
    "-",
    "*",
    "/",
    "%",
    "(",
    ")",
    "?",
    ":",
    "??",
    "max",
    ",",
    "<",
    "let",
    "=",
    ";",
    "!",
)


@given(st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PIECES), max_size=12).map(" ".join)))
def test_any_text_is_a_formula_or_refused(text: str) -> None:
    try:
        formula = parse_formula(text, ("a",))
    except FormulaError:
        return
    value = formula({"a": 2.0})
    assert value is None or math.isfinite(value)
