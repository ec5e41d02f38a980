"""What an answer's headers ask for."""

import pytest

from cacheops.transport import RETRY_AFTER_MAX_S, retry_after_of

NOON = "Sat, 21 Nov 2026 12:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        pytest.param({}, 0.0, id="nothing"),
        pytest.param({"Retry-After": "90"}, 90.0, id="seconds"),
        pytest.param({"Retry-After": "86400"}, RETRY_AFTER_MAX_S, id="a day is cut to an hour"),
        pytest.param({"Retry-After": "9" * 400}, 0.0, id="no number"),
        pytest.param({"Retry-After": "²"}, 0.0, id="a digit that is none"),
        pytest.param({"Retry-After": "-5"}, 0.0, id="negative"),
        pytest.param({"Retry-After": "Sat, 21 Nov 2026 12:02:00 GMT", "Date": NOON}, 120.0, id="a date"),
        pytest.param({"Retry-After": "Sat, 21 Nov 2026 11:59:00 GMT", "Date": NOON}, 0.0, id="a date gone by"),
        pytest.param({"Retry-After": "Sat, 21 Nov 2026 12:02:00 GMT"}, 0.0, id="a date beside none"),
        pytest.param({"Retry-After": "soon", "Date": NOON}, 0.0, id="words"),
        pytest.param({"RateLimit": '"api";r=0;t=55'}, 55.0, id="a quota that is used up"),
        pytest.param({"RateLimit": '"api";r=7;t=55'}, 0.0, id="a quota that is not"),
        pytest.param({"RateLimit": '"api";r=0;t=55', "Retry-After": "5"}, 5.0, id="both"),
    ],
)
def test_a_wish_to_wait_is_heard_within_bounds(headers: dict[str, str], wait_s: float) -> None:
    assert retry_after_of(headers.get) == wait_s
