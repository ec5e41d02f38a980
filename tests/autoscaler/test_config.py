"""ScalingPolicy and ScaledService objects: what is taken, what is refused, and in which words."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.config import SPEC_MAX_CHARS, ScalingPolicyModel, known_fields
from autoscaler.errors import BadSpecError
from autoscaler.parse import parse_annotation, parse_policy, parse_scaled_service
from autoscaler.policy.spec import (
    Mode,
    PolicySpec,
    PolicyType,
    RateLimit,
    SelectPolicy,
    default_scale_down,
    default_scale_up,
)
from autoscaler.schedule import Schedule
from autoscaler.settings import Enrolment, MetricsEndpoint, ServicePolicy, UpstreamQuery

WINDOW = {"name": "day", "start": "0 8 * * *", "end": "0 18 * * *", "minReplicas": 2}
GOLDEN = Path(__file__).parents[1] / "golden"
BAD_POLICIES = yaml.safe_load((GOLDEN / "bad_policies.yaml").read_text(encoding="utf-8"))
BAD_SCALED_SERVICES = yaml.safe_load((GOLDEN / "bad_scaled_services.yaml").read_text(encoding="utf-8"))
A_MEGABYTE = "x" * 1_000_000


def policy(spec: object) -> ServicePolicy:
    return parse_policy({"metadata": {"namespace": "team-a", "name": "gold", "generation": 7}, "spec": spec})


def refused(spec: object) -> BadSpecError:
    with pytest.raises(BadSpecError) as raised:
        policy(spec)
    return raised.value


@pytest.mark.parametrize("spec", [{}, None, {"replicas": None}, {"replicas": {"min": None}, "schedules": []}])
def test_a_policy_that_says_nothing_has_every_default(spec: object) -> None:
    parsed = policy(spec)

    assert parsed == ServicePolicy(name="team-a/gold", generation=7, spec=PolicySpec(), endpoint=MetricsEndpoint())


def test_every_part_of_a_policy_reaches_the_decision() -> None:
    parsed = policy(
        {
            "mode": "direct",
            "replicas": {"min": 0, "max": 8},
            "objectives": {"ttftSeconds": 1, "itlSeconds": 0.05, "quantile": 0.9, "attainment": 0.95},
            "targets": {"queueRequests": 3, "kvCacheUtilization": 0.7, "runningRequests": 64, "tokensPerSecond": 9000}
            | {"useLearnedCapacity": False, "maxAgeSeconds": 20, "headroom": 0.7},
            "forecast": {"enabled": False, "horizonSeconds": 60, "maxRaise": 0.5},
            "zero": {"enabled": True, "idleSeconds": 60},
            "upstream": {"query": "sum(queue)"},
            "pause": {"paused": True, "replicas": 4},
            "leadTimePriorSeconds": 90,
        }
    ).spec

    assert (parsed.mode, parsed.replicas_min, parsed.replicas_max) == (Mode.DIRECT, 0, 8)
    assert (parsed.objectives.ttft_s, parsed.objectives.itl_s) == (1.0, 0.05)
    assert (parsed.objectives.quantile, parsed.objectives.attainment_ratio) == (0.9, 0.95)
    targets = parsed.targets
    assert (targets.queue_requests, targets.kv_cache_usage_ratio, targets.running_requests) == (3.0, 0.7, 64.0)
    assert (targets.tokens_per_s, targets.use_learned_capacity) == (9000.0, False)
    assert (targets.max_age_s, targets.headroom_ratio) == (20.0, 0.7)
    assert (parsed.forecast.enabled, parsed.forecast.horizon_s, parsed.forecast.max_raise_ratio) == (False, 60.0, 0.5)
    assert (parsed.zero.enabled, parsed.zero.idle_s) == (True, 60.0)
    assert parsed.lead_time_prior_s == 90.0
    assert (parsed.paused, parsed.pinned_replicas) == (True, 4)


@pytest.mark.parametrize(
    ("spec", "period_s"),
    [
        ({"upstream": {"query": "sum(queue)"}}, 2.0),
        ({"upstream": {"query": "sum(queue)", "periodSeconds": 5}}, 5.0),
        ({"upstream": {"query": "sum(queue)"}, "targets": {"maxAgeSeconds": 2}}, 1.0),
    ],
    ids=["default", "given", "at most half the age"],
)
def test_the_upstream_is_asked_often_enough_to_be_fresh(spec: object, period_s: float) -> None:
    assert policy(spec).upstream == UpstreamQuery(promql="sum(queue)", period_s=period_s)
    assert policy({}).upstream is None


def test_a_query_too_long_for_a_url_is_refused() -> None:
    assert refused({"upstream": {"query": "x" * 2049}}).message == "must have at most 2048 characters"


def test_zero_switches_a_lens_or_an_objective_off() -> None:
    parsed = policy({"targets": {"queueRequests": 0, "kvCacheUtilization": 0}, "objectives": {"ttftSeconds": 0}}).spec

    assert parsed.targets.queue_requests is None
    assert parsed.targets.kv_cache_usage_ratio is None
    assert parsed.objectives.ttft_s is None


def test_behavior_takes_the_defaults_of_the_hpa_field_by_field() -> None:
    parsed = policy({"behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}, "scaleUp": {}}}).spec

    assert parsed.scale_up == default_scale_up()
    assert parsed.scale_down.stabilization_window_s == 60.0
    assert parsed.scale_down.rate_limits == default_scale_down().rate_limits
    assert parsed.scale_down.tolerance_ratio == default_scale_down().tolerance_ratio


def test_rate_limits_replace_the_default_list_whole() -> None:
    limits = [{"type": "Pods", "value": 1, "periodSeconds": 60}]

    up = policy({"behavior": {"scaleUp": {"policies": limits, "selectPolicy": "Min"}}}).spec.scale_up

    assert up.rate_limits == (RateLimit(type=PolicyType.PODS, value=1, period_s=60.0),)
    assert up.select_policy is SelectPolicy.MIN


@pytest.mark.parametrize(("written", "ratio"), [(0, 0.0), (0.05, 0.05), ("0.05", 0.05), ("50m", 0.05), ("0", 0.0)])
def test_tolerance_is_read_as_the_hpa_reads_it(written: object, ratio: float) -> None:
    assert policy({"behavior": {"scaleUp": {"tolerance": written}}}).spec.scale_up.tolerance_ratio == ratio


def test_the_metrics_endpoint_and_the_schedules_are_the_controllers_own() -> None:
    metrics = {"port": 9090, "path": "/m", "scheme": "https", "periodSeconds": 1, "bearerTokenFile": "token"}

    parsed = policy({"metrics": metrics | {"caFile": "ca.crt", "idlePeriodSeconds": 5}, "schedules": [WINDOW]})

    folder = Path("/etc/warmtide/credentials/team-a")
    assert parsed.endpoint == MetricsEndpoint(
        port=9090,
        path="/m",
        scheme="https",
        period_s=1.0,
        is_period_fixed=True,
        idle_period_s=5.0,
        bearer_token_file=folder / "token",
        ca_file=folder / "ca.crt",
    )
    assert parsed.schedules == (
        Schedule(name="day", start="0 8 * * *", end="0 18 * * *", time_zone="UTC", replicas_min=2),
    )


@pytest.mark.parametrize(
    ("spec", "period_s", "idle_period_s"),
    [
        pytest.param({}, 2.0, 15.0, id="the defaults"),
        pytest.param({"targets": {"maxAgeSeconds": 10}}, 2.0, 5.0, id="idle pods stay fresh"),
        pytest.param({"targets": {"maxAgeSeconds": 2}}, 1.0, 1.0, id="busy pods too"),
        pytest.param({"metrics": {"periodSeconds": 20}}, 20.0, 20.0, id="idle is never faster than busy"),
        pytest.param({"metrics": {"idlePeriodSeconds": 4}}, 2.0, 4.0, id="as written"),
    ],
)
def test_periods_that_are_not_written_follow_the_age_limit(spec: object, period_s: float, idle_period_s: float) -> None:
    endpoint = policy(spec).endpoint

    assert (endpoint.period_s, endpoint.idle_period_s) == (period_s, idle_period_s)


@pytest.mark.parametrize("case", BAD_POLICIES, ids=lambda case: case["case"])
def test_what_cannot_be_used_is_named_by_object_field_and_value(case: dict[str, Any]) -> None:
    assert str(refused(case["spec"])) == f"ScalingPolicy team-a/gold: {case['says']}"


def test_windows_need_names_of_their_own_and_two_different_times() -> None:
    twice, same = refused({"schedules": [WINDOW, WINDOW]}), refused({"schedules": [WINDOW | {"end": "0  8 * * *"}]})

    assert twice.field == same.field == "spec.schedules"
    assert twice.message == "has more than one window named day"
    assert same.message == "has a window, day, that starts and ends at the same times"


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        pytest.param({"mode": A_MEGABYTE}, "spec.mode", id="in a field"),
        pytest.param({"schedules": [WINDOW, {"name": A_MEGABYTE}]}, "spec.schedules[1].name", id="in a list"),
        pytest.param({"notes": {"a": "b", "c": A_MEGABYTE}}, "spec.notes.c", id="in an unknown field"),
        pytest.param(A_MEGABYTE, "spec", id="instead of an object"),
    ],
)
def test_a_megabyte_is_named_but_not_repeated(spec: object, field: str) -> None:
    error = refused(spec)

    assert error.field == field
    assert error.message == f"is 1000002 characters long; a spec may have {SPEC_MAX_CHARS} in all"
    assert len(str(error)) < 250


@pytest.mark.parametrize(("extra_chars", "is_too_long"), [(-1, False), (0, False), (1, True)])
def test_the_size_limit_is_exact(extra_chars: int, is_too_long: bool) -> None:
    frame = len('{"mode": ""}')

    error = refused({"mode": "x" * (SPEC_MAX_CHARS - frame + extra_chars)})

    assert ("characters long" in error.message) is is_too_long


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_spec_nested_beyond_reason_is_refused(depth: int) -> None:
    spec: dict[str, Any] = {}
    for _ in range(depth):
        spec = {"zero": spec}

    assert refused(spec).object_name == "ScalingPolicy team-a/gold"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from([name for names in known_fields(ScalingPolicyModel).values() for name in names])
                | st.text(max_size=8),
                inner,
                max_size=6,
            )
        ),
        max_leaves=20,
    )
)
def test_any_json_is_either_taken_or_refused_in_words(spec: object) -> None:
    try:
        policy(spec)
    except BadSpecError as exc:
        error = exc
    else:
        return

    assert error.field.startswith("spec")
    assert len(str(error)) < 1000


@pytest.mark.parametrize("name", ["gold", "a", "a-b-2", "a" * 63])
def test_the_annotation_names_a_policy(name: str) -> None:
    assert parse_annotation("InferenceService team-a/llama", name) == name


@pytest.mark.parametrize("value", ["", "Gold", "a" * 64, "-a", "a-", "a.b", "a/b", "gold\n", " gold", "ü", A_MEGABYTE])
def test_any_other_annotation_is_refused_by_name(value: str) -> None:
    with pytest.raises(BadSpecError) as raised:
        parse_annotation("InferenceService team-a/llama", value)

    error = raised.value
    assert error.object_name == "InferenceService team-a/llama"
    assert error.field == "metadata.annotations[warmtide.dev/policy]"
    assert len(str(error)) < 300


def scaled(spec: object) -> dict[str, Any]:
    return {"metadata": {"namespace": "team-a", "name": "qwen"}, "spec": spec}


def test_a_scaled_service_enrols_what_it_names() -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "qwen"}

    asked = parse_scaled_service(scaled({"targetRef": target, "policyRef": {"name": "gold"}}))

    assert asked == Enrolment(api_version="apps/v1", kind="Deployment", name="qwen", policy="gold")


@pytest.mark.parametrize("case", BAD_SCALED_SERVICES, ids=lambda case: case["case"])
def test_a_bad_scaled_service_is_refused_by_name(case: dict[str, Any]) -> None:
    with pytest.raises(BadSpecError) as raised:
        parse_scaled_service(scaled(case["spec"]))

    assert str(raised.value) == f"ScaledService team-a/qwen: {case['says']}"
