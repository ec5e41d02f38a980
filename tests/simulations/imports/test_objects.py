"""A user's own HPA or ScaledObject: what it becomes, and what is said where it cannot be simulated."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import PodSignals
from simulations.cli import main
from simulations.compiled.records import requests_of
from simulations.imports import import_policy
from simulations.imports.errors import ImportedObjectError
from simulations.policies import Bounds
from simulations.policies.base import Queries
from simulations.policies.hpa import Hpa
from simulations.policies.hpa_limits import Behavior, Unruled
from simulations.replica import PROFILES, EngineConfig
from simulations.world import Setting, simulate

BOUNDS = Bounds(low=1, high=16)
HPA = """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: llama, namespace: ml}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: llama}
  minReplicas: 2
  maxReplicas: 8
  metrics:
    - type: Pods
      pods:
        metric: {name: vllm_num_requests_waiting}
        target: {type: AverageValue, averageValue: "5"}
    - type: External
      external:
        metric: {name: num_requests_running, selector: {matchLabels: {model: llama}}}
        target: {type: AverageValue, averageValue: 8000m}
  behavior:
    scaleUp:
      stabilizationWindowSeconds: 60
      policies: [{type: Pods, value: 2, periodSeconds: 30}]
    scaleDown: {selectPolicy: Disabled, tolerance: "0.2"}
"""
SCALED_OBJECT = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: llama}
spec:
  scaleTargetRef: {name: llama}
  maxReplicaCount: 40
  fallback: {failureThreshold: 3, replicas: 2}
  triggers:
    - type: prometheus
      metadata:
        serverAddress: http://prometheus:9090
        query: sum(vllm:num_requests_waiting{namespace="ml"})
        threshold: "5"
"""


def service(replicas: int, **signals: float) -> Observation:
    sample = PodSignals(observed_at_s=0.0, window_s=30.0, **signals)
    pods = tuple(
        PodSeen(name=f"pod-{n}", phase=PodPhase.READY, created_at_s=0.0, signals=sample) for n in range(replicas)
    )
    return Observation(service="ml/llama", replicas=replicas, pods=pods)


def hpa_of(text: str) -> Hpa:
    policy = import_policy(text, BOUNDS).policy
    assert isinstance(policy, Hpa)
    return policy


def test_an_hpa_keeps_its_metrics_bounds_and_behavior() -> None:
    hpa = hpa_of(HPA)

    assert [metric.name for metric in hpa.metrics] == ["vllm_num_requests_waiting", "num_requests_running"]
    assert hpa.limits.bounds == Bounds(low=2, high=8)
    assert isinstance(hpa.limits, Behavior)
    assert hpa.limits.up.stabilization_window_s == 60.0
    assert [(rate.value, rate.period_s) for rate in hpa.limits.up.rate_limits] == [(2, 30.0)]
    assert hpa.limits.down.select_policy == "Disabled"
    assert hpa.limits.down.stabilization_window_s == 300.0  # the default, filled in
    assert hpa.limits.tolerances.down == 0.2


def test_an_imported_hpa_scales_as_the_object_would() -> None:
    hpa = hpa_of(HPA)
    hpa.wish(service(2, waiting_requests=5.0, running_requests=8.0), 0.0)

    wish = hpa.wish(service(2, waiting_requests=5.0, running_requests=20.0), 61.0)

    assert wish is not None
    assert wish.replicas == 4  # 40 / 8 = 5, two pods per 30 s
    assert wish.reason == "num_requests_running asks for 5"


def test_a_scaled_object_has_kedas_defaults_and_says_what_has_no_effect() -> None:
    imported = import_policy(SCALED_OBJECT, BOUNDS)

    assert imported.name == "ScaledObject llama"
    assert isinstance(imported.policy, Hpa)
    assert isinstance(imported.policy.limits, Unruled)
    assert imported.policy.limits.bounds == Bounds(low=1, high=16)
    assert imported.policy.metrics[0].wanted(service(1), imported.policy.limits.tolerances, 0.0) == 0
    assert imported.notes == (
        "scaling to zero is not simulated: one replica stays",
        "at most 16 replicas are simulated, not 40",
        "fallback has no effect: no query fails here",
    )


def test_a_query_of_rates_makes_the_sensors_read_rates() -> None:
    text = SCALED_OBJECT.replace(
        'sum(vllm:num_requests_waiting{namespace="ml"})', "sum(rate(vllm:request_success_total[1m]))"
    )

    assert hpa_of(text).cadence.reads_rates
    assert not hpa_of(SCALED_OBJECT).cadence.reads_rates


def test_a_policy_sees_rates_over_its_own_range_and_the_longest_of_several() -> None:
    text = SCALED_OBJECT.replace(
        'sum(vllm:num_requests_waiting{namespace="ml"})',
        "sum(rate(vllm:request_success_total[2m])) + sum(increase(vllm:generation_tokens_total[1m30s]))",
    )
    imported = import_policy(text, BOUNDS)

    assert hpa_of(text).cadence.queries == Queries(window_s=120.0)
    assert "all rates are taken over 120 s, the longest of their ranges" in imported.notes


def test_answers_are_kept_for_the_polling_interval_where_a_trigger_says_so() -> None:
    kept = SCALED_OBJECT.replace("    - type: prometheus\n", "    - type: prometheus\n      useCachedMetrics: true\n")

    assert hpa_of(SCALED_OBJECT).queries.polling_s is None
    assert hpa_of(kept).queries.polling_s == 30.0
    assert hpa_of(kept.replace("spec:\n", "spec:\n  pollingInterval: 10\n")).queries.polling_s == 10.0
    with pytest.raises(ImportedObjectError, match=r"spec.pollingInterval is 0; 1 to 3600 are simulated"):
        import_policy(kept.replace("spec:\n", "spec:\n  pollingInterval: 0\n"), BOUNDS)


def test_a_lost_series_is_unknown_where_null_values_are_not_ignored() -> None:
    strict = SCALED_OBJECT + '        ignoreNullValues: "false"\n'

    assert hpa_of(strict).wish(service(3), 0.0) is None
    assert hpa_of(SCALED_OBJECT).wish(service(3), 0.0) is not None


def test_the_object_may_stand_among_others() -> None:
    other = "apiVersion: v1\nkind: Service\nmetadata: {name: llama}\n---\n"

    assert import_policy(other + HPA, BOUNDS).name == "HorizontalPodAutoscaler llama"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("autoscaling/v2", "autoscaling/v1", "HorizontalPodAutoscaler llama: apiVersion is 'autoscaling/v1'; autoscal"),
        ("vllm_num_requests_waiting", "queue_depth", r"spec.metrics\[0\].pods.metric.name is 'queue_depth'; these are"),
        (
            "type: Pods\n      pods:",
            "type: Resource\n      resource:",
            r"metrics\[0\].type is 'Resource'; Pods",
        ),
        ('averageValue: "5"', 'averageValue: "0"', r"pods.target.averageValue is '0'; it must be at least 0.001"),
        ('averageValue: "5"', "averageValue: five", r"averageValue is 'five'; a quantity is expected"),
        ("maxReplicas: 8", "maxReplicas: 1", "at least 2 and at most 1 replicas cannot be"),
        ("maxReplicas: 8", "maxReplicas: many", "spec.maxReplicas is 'many'; a whole number ≥ 0 is expected"),
        ("  maxReplicas: 8\n", "", "spec.maxReplicas is None"),
        ("type: Pods, value: 2", "type: Nodes, value: 2", r"scaleUp.policies\[0\].type is 'Nodes'; one of Pods, Perce"),
        ("periodSeconds: 30", "periodSeconds: 3000", r"periodSeconds is 3000; rate limit"),
        ("selectPolicy: Disabled", "selectPolicy: Never", r"scaleDown.selectPolicy is 'Never'; one of Max, Min, Disab"),
        ("stabilizationWindowSeconds: 60", "stabilizationWindowSeconds: 9999", r"is 9999; stabilization window must"),
        ("metrics:", "metrics: 3\n  other:", r"spec.metrics is 3; a list is expected"),
        ("metrics:", "other:", r"without metrics an HPA scales on CPU"),
    ],
)
def test_an_hpa_that_cannot_be_simulated_is_refused_by_field_and_value(old: str, new: str, message: str) -> None:
    assert old in HPA

    with pytest.raises(ImportedObjectError, match=message):
        import_policy(HPA.replace(old, new), BOUNDS)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("v1alpha1", "v1beta9", r"apiVersion is 'keda.sh/v1beta9'; keda.sh/v1alpha1 is supported"),
        ("type: prometheus", "type: cron", r"spec.triggers\[0\].type is 'cron'; prometheus is supported"),
        (
            "sum(vllm",
            "sum(my_own",
            r"metadata.query is 'sum\(my_own:num.*metric 'my_own:num_requests_waiting' is not",
        ),
        ('threshold: "5"', 'threshold: "-5"', r"metadata.threshold is '-5'; it must be ≥ 0"),
        (
            "  triggers:",
            "  advanced: {scalingModifiers: {formula: a}}\n  triggers:",
            "is 'a'; 'a' is no trigger's",
        ),
        ("type: prometheus", "type: prometheus\n      metricType: Utilization", "metricType is 'Utilization'"),
    ],
)
def test_a_scaled_object_that_cannot_be_simulated_is_refused_by_field_and_value(
    old: str, new: str, message: str
) -> None:
    assert old in SCALED_OBJECT

    with pytest.raises(ImportedObjectError, match=message):
        import_policy(SCALED_OBJECT.replace(old, new), BOUNDS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "0 objects that scale in the file"),
        ("a: [", "the file is no YAML: while parsing"),
        (HPA + "---\n" + SCALED_OBJECT, "2 objects that scale"),
        ("- 1\n- 2\n", "0 objects that scale"),
        ("kind: ScaledObject\napiVersion: keda.sh/v1alpha1\nspec: 5\n", "spec is 5; a mapping is expected"),
        ("x" * 1_000_001, "has 1,000,001 characters"),
    ],
)
def test_a_file_that_is_no_such_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(ImportedObjectError, match=message):
        import_policy(text, BOUNDS)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(allow_nan=True) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(
    path=st.sampled_from(["metadata", "spec", "spec.metrics", "spec.behavior", "spec.minReplicas", "spec.triggers"]),
    value=json_values,
    text=st.sampled_from([HPA, SCALED_OBJECT]),
)
def test_any_value_anywhere_is_imported_or_refused(path: str, value: object, text: str) -> None:
    document = yaml.safe_load(text)
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[parent]
    place[last] = value

    try:
        imported = import_policy(yaml.safe_dump(document), BOUNDS)
    except ImportedObjectError:
        return
    assert imported.policy.wish(service(2, waiting_requests=1.0, running_requests=1.0), 0.0) is not None


def test_the_command_takes_an_object_among_the_policies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "hpa.yaml"
    file.write_text(HPA.replace("maxReplicas: 8", "maxReplicas: 30"), encoding="utf-8")

    code = main(["run", "--import", str(file), "--trace", str(_trace(tmp_path)), "--replicas-max", "4"])

    told = capsys.readouterr()
    assert code == 0
    assert str(file) in told.out
    assert "at most 4 replicas are simulated, not 30" in told.err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("hpa.yaml", HPA.replace("vllm_num_requests_waiting", "depth"), "metric.name is 'depth'; these are simulated"),
        ("hpa.yaml", None, "cannot be read"),
        ("hpa.txt", HPA, r"a file that ends in .yaml, .yml, .json is expected"),
    ],
    ids=["unknown metric", "no such file", "no object's name"],
)
def test_the_command_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, text: str | None, message: str
) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text, encoding="utf-8")

    code = main(["run", "--import", str(file), "--trace", str(_trace(tmp_path))])

    told = capsys.readouterr().err
    assert code == 2
    assert message in told
    assert told.count("\n") == 1


def _trace(folder: Path) -> Path:
    rows = "".join(f"2023-11-16 18:{n // 60:02d}:{n % 60:02d}.0000000,500,50\n" for n in range(300))
    file = folder / "trace.csv"
    file.write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}", encoding="utf-8")
    return file


@pytest.mark.parametrize(
    "series", ["vllm:inter_token_latency_seconds", "vllm:request_time_per_output_token_seconds"], ids=["ITL", "TPOT"]
)
def test_an_object_that_scales_on_the_time_between_tokens_sees_it(series: str) -> None:
    query = f"histogram_quantile(0.9, sum by (le) (rate({series}_bucket[1m])))"
    text = SCALED_OBJECT.replace('sum(vllm:num_requests_waiting{namespace="ml"})', query)
    at_s = np.arange(0.0, 240.0, 0.25)
    ones = np.ones(len(at_s), np.int32)
    setting = Setting(
        requests=requests_of(at_s, 300 * ones, 200 * ones),
        config=EngineConfig(caches_prefixes=False),
        times=PROFILES["llama-3.1-8b-l40s"],
        bounds=BOUNDS,
        replicas_at_start=1,
    )
    policy = hpa_of(text.replace('threshold: "5"', 'threshold: "0.02"'))

    outcome = simulate(setting, policy)

    assert policy.cadence.reads_gaps
    assert outcome.decisions[0].after > 1  # a step of an L40S alone takes longer than 20 ms
