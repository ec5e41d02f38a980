"""The request budget: generous while the server answers, small while it does not."""

import pytest

from autoscaler.kube.budget import BURST_REQUESTS, RETRY_AFTER_MAX_S, RequestBudget, backoff_s
from autoscaler.leader import RETRY_S
from metrics.clock import ManualClock


def requests_within(budget: RequestBudget, span_s: float) -> int:
    """How many of many requests asked for at once start within the span."""
    return sum(budget.reserve() <= span_s for _ in range(1000))


def test_a_burst_passes_at_once_and_then_a_hundred_a_second() -> None:
    budget = RequestBudget(ManualClock(100.0))

    assert requests_within(budget, 0.0) == pytest.approx(BURST_REQUESTS, abs=1)
    assert requests_within(RequestBudget(ManualClock(100.0)), 2.0) == pytest.approx(BURST_REQUESTS + 200, abs=1)


def test_a_failing_server_gets_fewer_than_ten_requests_a_second_the_elections_included() -> None:
    budget = RequestBudget(ManualClock(100.0))
    budget.failed()

    assert requests_within(budget, 10.0) + 10.0 / RETRY_S <= 90


def test_an_answer_ends_the_small_budget() -> None:
    budget = RequestBudget(ManualClock(100.0))
    budget.failed()
    budget.answered()

    assert requests_within(budget, 0.0) == pytest.approx(BURST_REQUESTS, abs=1)


def test_retry_after_holds_everything_back_but_not_for_ever() -> None:
    clock = ManualClock(100.0)
    budget = RequestBudget(clock)
    budget.failed(retry_after_s=5.0)
    budget.answered()
    assert budget.reserve() == 5.0

    budget.failed(retry_after_s=1e9)
    assert budget.reserve() == RETRY_AFTER_MAX_S

    clock.advance(RETRY_AFTER_MAX_S)
    assert budget.reserve() == 0.0


def test_back_off_doubles_to_its_cap_and_jitter_takes_at_most_half() -> None:
    full = [backoff_s(failures, first_s=1.0, cap_s=8.0, draw=1.0) for failures in (1, 2, 3, 4, 5, 1000)]
    least = [backoff_s(failures, first_s=1.0, cap_s=8.0, draw=0.0) for failures in (1, 2, 3, 4, 5, 1000)]

    assert full == [1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    assert least == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
