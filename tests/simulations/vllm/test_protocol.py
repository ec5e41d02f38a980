"""Untrusted JSON becomes a call or a refusal; texts have lengths and names without a tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.cluster.vllm.errors import RefusedError
from simulations.cluster.vllm.options import ServerOptions
from simulations.cluster.vllm.protocol import Call, parse_call
from simulations.cluster.vllm.tokens import answer_ids, answer_text, prompt_of_ids, prompt_of_text
from simulations.replica import EngineConfig

OPTIONS = ServerOptions(engine=EngineConfig(max_model_len_tokens=64, num_gpu_blocks=100))
KEYS = ["prompt", "messages", "model", "n", "max_tokens", "min_tokens", "stream", "stream_options", "ignore_eos"]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["content", "text"]), inner),
    max_leaves=8,
)


@given(json_values | st.dictionaries(st.sampled_from(KEYS), json_values), st.booleans())
def test_any_json_is_a_call_or_a_refusal(body: object, is_chat: bool) -> None:
    outcome: Call | RefusedError
    try:
        outcome = parse_call(body, OPTIONS, is_chat=is_chat)
    except RefusedError as exc:
        outcome = exc

    if isinstance(outcome, RefusedError):
        assert outcome.status in {400, 404}
    else:
        assert all(prompt.tokens >= 1 for prompt in outcome.prompts)
        assert max(prompt.tokens for prompt in outcome.prompts) + outcome.max_tokens <= 64
        assert 1 <= outcome.output_tokens <= outcome.max_tokens


@pytest.mark.parametrize(("prompt", "accepted"), [(53, True), (54, True), (55, False)])
def test_prompt_and_answer_must_fit_the_context(prompt: int, accepted: bool) -> None:
    body = {"prompt": [1] * prompt, "max_tokens": 10}
    if accepted:
        assert parse_call(body, OPTIONS, is_chat=False).output_tokens == 10
    else:
        with pytest.raises(RefusedError, match="total of 65"):
            parse_call(body, OPTIONS, is_chat=False)


def test_a_chat_without_a_limit_may_fill_the_context() -> None:
    call = parse_call({"messages": [{"role": "user", "content": "abcd" * 6}]}, OPTIONS, is_chat=True)

    assert (call.prompts[0].tokens, call.max_tokens, call.finish_reason) == (10, 54, "length")


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        pytest.param("a" * 40, 14, id="text"),
        pytest.param([{"type": "text", "text": "a" * 20}, {"type": "text", "text": "a" * 20}], 14, id="parts"),
        pytest.param([{"type": "image_url", "image_url": {"url": "x"}}], 4, id="an image has no text"),
        pytest.param(None, 4, id="nothing"),
    ],
)
def test_a_message_counts_its_text_and_four_tokens_more(content: object, tokens: int) -> None:
    call = parse_call({"messages": [{"role": "user", "content": content}]}, OPTIONS, is_chat=True)

    assert call.prompts[0].tokens == tokens


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"content": 5}]}, "messages"),
        ({"messages": [5]}, "messages"),
        ({"messages": [{"content": "x"}], "stream_options": [1]}, "stream_options"),
    ],
)
def test_a_chat_that_is_none_is_refused_by_its_field(body: dict[str, object], param: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_call(body, OPTIONS, is_chat=True)

    assert refused.value.param == param


@pytest.mark.parametrize(("text", "tokens"), [("", 1), ("abcd", 1), ("abcde", 2), ("ü" * 4, 2)])
def test_a_text_has_a_token_per_four_bytes(text: str, tokens: int) -> None:
    assert prompt_of_text(text, block_size_tokens=16).tokens == tokens


def test_equal_beginnings_have_equal_block_names_and_only_full_blocks_have_one() -> None:
    first = prompt_of_ids([1] * 40, block_size_tokens=16)
    second = prompt_of_ids([1] * 16 + [2] * 24, block_size_tokens=16)

    assert len(first.block_ids) == len(second.block_ids) == 2
    assert first.block_ids[0] == second.block_ids[0]
    assert first.block_ids[1] != second.block_ids[1]


def test_a_block_is_named_after_all_that_came_before_it() -> None:
    first = prompt_of_ids([1] * 16 + [3] * 16, block_size_tokens=16)
    second = prompt_of_ids([2] * 16 + [3] * 16, block_size_tokens=16)

    assert first.block_ids[1] != second.block_ids[1]


@given(st.integers(0, 50), st.integers(0, 50))
def test_an_answer_reads_the_same_whole_or_in_parts(first: int, second: int) -> None:
    assert answer_text(0, first) + answer_text(first, second) == answer_text(0, first + second)
    assert answer_ids(0, first) + answer_ids(first, second) == answer_ids(0, first + second)
    assert len(answer_text(0, first).split()) == first
