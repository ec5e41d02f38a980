"""What was learned survives the status, and nothing that is written there can harm the next controller."""

import base64
import json
import random
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoscaler.learned import PACKED_MAX_CHARS, UNPACKED_MAX_BYTES, pack, unpack

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def packed(plain: bytes) -> str:
    return base64.b64encode(zlib.compress(plain)).decode()


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_what_is_packed_comes_back(learned: dict[str, Any]) -> None:
    text = pack(learned)

    assert text is not None
    assert unpack(text) == learned


@given(st.text() | st.binary().map(packed))
def test_foreign_text_is_refused_with_one_kind_of_error(text: str) -> None:
    try:
        outcome: object = unpack(text)
    except ValueError as exc:
        outcome = exc

    assert isinstance(outcome, dict) or "status.learned" in str(outcome)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{}", id="not packed"),
        pytest.param(packed(b"[]"), id="a list"),
        pytest.param(packed(b"[" * 100_000), id="nested beyond reason"),
        pytest.param(packed(b'{"a": "' + b"x" * UNPACKED_MAX_BYTES + b'"}'), id="a bomb"),
        pytest.param(packed(b'{"a": 1}')[:-8], id="cut"),
    ],
)
def test_what_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"status\.learned"):
        unpack(text)


def test_too_much_is_not_kept() -> None:
    noise = random.Random(1).randbytes(PACKED_MAX_CHARS).hex()

    assert pack({"a": noise}) is None
    assert pack({"a": "x" * (UNPACKED_MAX_BYTES + 1)}) is None
    assert pack({"a": noise[: PACKED_MAX_CHARS // 2]}) is not None


def test_numbers_that_are_none_cannot_be_learned() -> None:
    with pytest.raises(ValueError, match="JSON"):
        pack(json.loads('{"a": NaN}'))
