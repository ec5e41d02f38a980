"""Configurations that vLLM would refuse are refused, and a step costs what the coefficients say."""

import pytest

from simulations.replica import LLAMA_8B_H100, PROFILES, BadEngineConfigError, EngineConfig, StepTimes


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        pytest.param({"max_num_seqs": 0}, "max_num_seqs", id="no sequences"),
        pytest.param({"block_size_tokens": 0}, "block_size_tokens", id="empty blocks"),
        pytest.param({"max_num_seqs": 257, "max_num_batched_tokens": 256}, "max_num_batched_tokens", id="small budget"),
        pytest.param({"num_gpu_blocks": 512, "max_model_len_tokens": 8192}, "8176 tokens", id="context beyond the KV"),
    ],
)
def test_a_configuration_that_cannot_run_is_refused(settings: dict[str, int], named: str) -> None:
    with pytest.raises(BadEngineConfigError, match=named):
        EngineConfig(**settings)  # type: ignore[arg-type] # a table of integer settings


def test_a_context_that_just_fills_the_kv_cache_is_accepted() -> None:
    config = EngineConfig(num_gpu_blocks=513, max_model_len_tokens=8192)

    assert config.kv_capacity_tokens == 8192  # 512 usable blocks: one of them is vLLM's placeholder


@pytest.mark.parametrize("bad", [-1e-9, float("nan"), float("inf")])
def test_a_coefficient_that_is_no_time_is_refused(bad: float) -> None:
    with pytest.raises(BadEngineConfigError, match="kv_token_s"):
        StepTimes(base_s=0.01, prefill_token_s=0, decode_sequence_s=0, kv_token_s=bad)


def test_a_step_without_any_fixed_cost_is_refused() -> None:
    with pytest.raises(BadEngineConfigError, match="stand still"):
        StepTimes(base_s=0, prefill_token_s=1, decode_sequence_s=0, kv_token_s=0)


def test_a_step_costs_the_sum_of_its_parts() -> None:
    times = StepTimes(
        base_s=1, overhead_s=2, prefill_token_s=10, decode_sequence_s=100, kv_token_s=1000, attention_pair_s=10_000
    )

    assert times.duration_s(3, 4, kv_tokens=5, attention_pairs=6) == 1 + 2 + 30 + 400 + 5000 + 60_000


def test_twice_the_speed_is_half_the_time() -> None:
    slow = LLAMA_8B_H100.duration_s(100, 10, kv_tokens=5000, attention_pairs=5000.0)
    fast = LLAMA_8B_H100.sped_up(2).duration_s(100, 10, kv_tokens=5000, attention_pairs=5000.0)

    assert fast == pytest.approx(slow / 2)


@pytest.mark.parametrize("factor", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_that_is_none_is_refused(factor: float) -> None:
    with pytest.raises(BadEngineConfigError, match="speed-up"):
        LLAMA_8B_H100.sped_up(factor)


def test_a_profile_gives_back_the_published_fit() -> None:
    tokens = 2048
    fit_ms = 6.353 + 0.01456 * tokens + 1.291e-6 * tokens**2  # a + b·n + e·n², aiconfigurator on H100

    prefill_s = LLAMA_8B_H100.duration_s(tokens, 0, kv_tokens=0, attention_pairs=tokens**2 / 2)

    assert prefill_s - LLAMA_8B_H100.overhead_s == pytest.approx(fit_ms / 1e3)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_published_profiles_are_plausible(profile: str) -> None:
    decode_s = PROFILES[profile].duration_s(0, 32, kv_tokens=32 * 1024, attention_pairs=0.0)
    prefill_s = PROFILES[profile].duration_s(2048, 0, kv_tokens=0, attention_pairs=2048**2 / 2)

    assert 0.005 < decode_s < 0.05  # 32 sequences at 1k context: no large model decodes outside of this
    assert decode_s < prefill_s < 0.2
