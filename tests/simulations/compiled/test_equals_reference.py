"""The compressed engine is the iteration-by-iteration one: every time of every request, on any small world."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.compiled.fleet import replay_compiled, request_records
from simulations.fleet import replay_static
from simulations.replica import EngineConfig, StepTimes
from simulations.trace import Arrival

CLOSE_S = 1e-6
BLOCK_TOKENS = 4
CONTEXT_TOKENS = 64
TIMES = StepTimes(
    base_s=0.01, prefill_token_s=1e-3, decode_sequence_s=2e-3, kv_token_s=1e-5, attention_pair_s=1e-6, overhead_s=1e-3
)
FLAT = StepTimes(base_s=0.013, prefill_token_s=0.0, decode_sequence_s=0.0, kv_token_s=0.0)
STEEP = StepTimes(base_s=1e-4, prefill_token_s=1e-4, decode_sequence_s=1e-5, kv_token_s=1e-2)
# No sum of step durations meets a multiple of this: who arrives in the very moment in which a step ends is chance.
GAP_UNIT_S = 0.0031415926535


configs = st.builds(
    EngineConfig,
    max_num_seqs=st.integers(1, 6),
    max_num_batched_tokens=st.integers(6, 40),
    num_gpu_blocks=st.integers(CONTEXT_TOKENS // BLOCK_TOKENS + 1, 40),
    block_size_tokens=st.just(BLOCK_TOKENS),
    max_model_len_tokens=st.just(CONTEXT_TOKENS),
    caches_prefixes=st.just(False),
    reserves_full_prompt=st.booleans(),
)


@st.composite
def traffic(draw: st.DrawFn) -> list[Arrival]:
    """Bursts and lulls of short requests, some at the very same time."""
    at_s, arrivals = 0.0, []
    for _ in range(draw(st.integers(1, 20))):
        at_s += GAP_UNIT_S * draw(st.sampled_from([0, 0, 1, 2, 7, 31, 400]))
        prompt = draw(st.integers(1, CONTEXT_TOKENS - 1))
        output = draw(st.integers(1, CONTEXT_TOKENS - prompt))
        arrivals.append(Arrival(at_s=at_s, prompt_tokens=prompt, output_tokens=output))
    return arrivals


def assert_same_course(arrivals: Sequence[Arrival], replicas: int, config: EngineConfig, times: StepTimes) -> None:
    reference = replay_static(arrivals, replicas, config, times)

    fleet = replay_compiled(request_records(arrivals), replicas, config, times)

    for field in ("scheduled_at_s", "first_token_at_s", "finished_at_s"):
        expected = np.array([getattr(finished, field) for finished in reference.requests])
        np.testing.assert_allclose(fleet.requests[field], expected, rtol=0, atol=CLOSE_S, err_msg=field)
    preemptions = [finished.preemptions for finished in reference.requests]
    assert fleet.requests["preemptions"].tolist() == preemptions


@given(traffic(), st.integers(1, 3), configs, st.sampled_from([TIMES, FLAT, STEEP]))
@settings(max_examples=400, deadline=None)
def test_every_request_has_the_reference_times(
    arrivals: list[Arrival], replicas: int, config: EngineConfig, times: StepTimes
) -> None:
    assert_same_course(arrivals, replicas, config, times)


@pytest.mark.parametrize("reserves_full_prompt", [True, False])
def test_a_crowd_that_preempts_has_the_reference_times(reserves_full_prompt: bool) -> None:
    rng = np.random.default_rng(7)
    at_s = np.cumsum(rng.exponential(0.05, 150))
    arrivals = [
        Arrival(at_s=float(moment), prompt_tokens=int(prompt), output_tokens=int(output))
        for moment, prompt, output in zip(at_s, rng.integers(1, 600, 150), rng.integers(1, 300, 150), strict=True)
    ]
    config = EngineConfig(
        max_num_seqs=32,
        max_num_batched_tokens=256,
        num_gpu_blocks=120,
        max_model_len_tokens=1024,
        caches_prefixes=False,
        reserves_full_prompt=reserves_full_prompt,
    )

    assert_same_course(arrivals, 2, config, TIMES)

    fleet = replay_compiled(request_records(arrivals), 2, config, TIMES)
    assert fleet.requests["preemptions"].sum() > 50
