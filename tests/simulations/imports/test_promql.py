"""Queries that people scale vLLM on, as numbers of the simulated service."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.policy.types import Observation, PodPhase, PodSeen
from metrics.sample import Histogram, PodSignals
from simulations.imports.errors import QueryError
from simulations.imports.promql import parse_query

PIECES = (
    *("sum", "rate", "vector", "histogram_quantile", "vllm:num_requests_waiting", "vllm:request_success_total"),
    *("(", ")", "[1m]", "{a='b'}", "by", "le", "or", "+", "-", "/", ",", "1", "0.9"),
)
TTFT = Histogram(bounds=(1.0, 2.0, math.inf), counts=(50.0, 100.0, 100.0), sum=120.0)


def service(*waiting: float, held: float = 0.0) -> Observation:
    pods = tuple(
        PodSeen(
            name=f"pod-{number}",
            phase=PodPhase.READY,
            created_at_s=0.0,
            signals=PodSignals(
                observed_at_s=0.0,
                window_s=60.0,
                waiting_requests=value,
                running_requests=10.0,
                kv_cache_usage_ratio=0.25,
                finished_requests_per_s=2.0,
                generation_tokens_per_s=400.0,
                ttft_s=TTFT,
            ),
        )
        for number, value in enumerate(waiting)
    )
    return Observation(service="ns/a", replicas=len(pods), pods=pods, upstream_waiting_requests=held)


def value(query: str, seen: Observation) -> float | None:
    return parse_query(query).total(seen, 0.0)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sum(vllm:num_requests_waiting)", 7.0),
        ('sum(vllm:num_requests_waiting{namespace="ml", pod=~"chat-.*"})', 7.0),
        ("sum(vllm_num_requests_waiting)", 7.0),
        ('sum by (model_name) (vllm:num_requests_waiting{model_name="a}b"})', 7.0),
        ("sum(vllm:num_requests_waiting) without (pod)", 7.0),
        ("avg(vllm:num_requests_waiting)", 3.5),
        ("max(vllm:num_requests_waiting) + min(vllm:num_requests_waiting)", 7.0),
        ("sum(vllm:num_requests_waiting + vllm:num_requests_running)", 27.0),
        ("sum(vllm:num_requests_waiting) + sum(vllm:num_requests_running)", 27.0),
        ("(sum(vllm:num_requests_waiting) / 2) or vector(0)", 3.5),
        ("sum(vllm:kv_cache_usage_perc) * 100", 50.0),
        ("avg(vllm:gpu_cache_usage_perc)", 0.25),
        ("sum(rate(vllm:request_success_total[1m]))", 4.0),
        ("sum(increase(vllm:request_success_total[5m]))", 1200.0),
        ('sum(rate(vllm:generation_tokens_total{job="x"}[30s])) / count(vllm:num_requests_running)', 400.0),
        ("histogram_quantile(0.75, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[5m])))", 1.5),
        ("histogram_quantile(0.5, sum(rate(vllm:time_to_first_token_seconds_bucket[5m])) by (le)) / 2", 0.5),
        ("sum(llm_d_epp_flow_control_queue_size)", 10.0),
        ("ceil(sum(vllm:num_requests_waiting) / 2)", 4.0),
        ("sum(vllm:num_requests_waiting) - 2 * 3 # what is too much", 1.0),
        ("-1 + scalar(sum(vllm:num_requests_waiting))", 6.0),
    ],
)
def test_a_query_gives_the_number_that_prometheus_would_give(query: str, expected: float) -> None:
    assert value(query, service(3.0, 4.0, held=3.0)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sum(vllm:num_requests_waiting)", None),
        ("sum(vllm:num_requests_waiting) or vector(0)", 0.0),
        ("1 / sum(vllm:num_requests_waiting)", None),
        ("1e300 * 1e300", None),
        ("histogram_quantile(0.9, sum by (le) (rate(vllm:time_to_first_token_seconds_bucket[5m])))", None),
    ],
)
def test_without_any_pod_there_is_no_number_unless_the_query_gives_one(query: str, expected: float | None) -> None:
    assert value(query, service()) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sum(vllm:num_request_waiting)", "metric 'vllm:num_request_waiting' is not simulated; these are: vllm:num_re"),
        ("sum(DCGM_FI_DEV_GPU_UTIL)", "metric 'DCGM_FI_DEV_GPU_UTIL' is not simulated"),
        ("sum(rate(vllm:iteration_tokens_total_sum[1m]))", "metric 'vllm:iteration_tokens_total_sum' is not simulated"),
        (
            "histogram_quantile(0.9, sum by (le) (rate(vllm:request_queue_time_seconds_bucket[1m])))",
            "metric 'vllm:request_queue_time_seconds_bucket' is not simulated",  # rather than never anything
        ),
        ("vllm:num_requests_waiting", r"a series for each pod; .* put sum\(…\) around it"),
        ("sum by (pod) (vllm:num_requests_waiting)", r"by \(pod\) gives a series for each pod"),
        ("sum(vllm:request_success_total)", r"is a counter: put rate\(…\[1m\]\) around it"),
        ("sum(rate(vllm:request_success_total[2h]))", r"a range of \[2h\]; up to 1 h are simulated"),
        ("sum(rate(vllm:request_success_total[0s]))", r"a range of \[0s\]; up to 1 h are simulated"),
        ("sum(rate(vllm:request_success_total))", r"needs a range such as \[1m\], got '\)'"),
        ("sum(increase(vllm:request_success_total[x]))", r"'\[x\]' is no range"),
        ("predict_linear(vllm:num_requests_waiting[1h], 60)", "function 'predict_linear' is not supported; these are"),
        ("histogram_quantile(0.9, sum(vllm:num_requests_waiting))", r"needs sum by \(le\)"),
        ("sum(vllm:num_requests_waiting", r"'\)' is expected where 'the end' is"),
        ("sum(vllm:num_requests_waiting) sum", "'sum' is not expected there"),
        ("sum(vllm:num_requests_waiting) > 3", "'> 3' is not understood"),
        ("vllm:num_requests_waiting / 2", "between a series per pod and one number"),
        ("histogram_quantile(le, sum(vllm:num_requests_waiting))", "a number is expected where 'le' is"),
        ("1e999", "1e999 is more than a metric can be"),
        ("", "'more' is expected where 'the end' is"),
        ("(" * 60 + "1" + ")" * 60, "more than 50 parentheses"),
        ("1" * 10_001, "a query of 10001 characters"),
    ],
)
def test_what_is_not_understood_is_said(query: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        parse_query(query)


@given(
    st.one_of(
        st.text(max_size=60),
        st.lists(
            st.sampled_from(PIECES),
            max_size=14,
        ).map(" ".join),
    )
)
def test_any_text_is_a_query_or_refused(text: str) -> None:
    try:
        query = parse_query(text)
    except QueryError:
        return
    found = query.total(service(3.0, 4.0), 0.0)
    assert found is None or math.isfinite(found)
