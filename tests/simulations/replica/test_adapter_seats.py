"""LoRA adapters: how many serve at once, who is passed over, and who waits while one is loaded."""

import pytest

from simulations.fleet import Follow, replay_static
from simulations.replica import AdapterLimits, BadEngineConfigError, EngineConfig, Finished, StepTimes
from simulations.replica.adapters import AdapterSeats
from simulations.trace import Arrival

STEP_S, LOAD_S = 0.01, 0.5
CONFIG = EngineConfig(max_num_seqs=8, max_num_batched_tokens=512, caches_prefixes=False)
TIMES = StepTimes(base_s=STEP_S, prefill_token_s=0.0, decode_sequence_s=0.0, kv_token_s=0.0)


def served(adapters: tuple[int, ...], *, max_loras: int, output_tokens: int = 10) -> tuple[Finished, ...]:
    """One request after the other, all within the first step."""
    arrivals = [
        Arrival(at_s=number * 1e-4, prompt_tokens=10, output_tokens=output_tokens) for number in range(len(adapters))
    ]
    limits = AdapterLimits(max_loras=max_loras, load_s=LOAD_S)
    follows = [Follow(adapter=adapter) for adapter in adapters]
    return replay_static(arrivals, 1, CONFIG, TIMES, follows=follows, adapters=limits).requests


def test_the_step_that_brings_an_adapter_in_loads_it() -> None:
    first, second = served((1, 1), max_loras=1)

    assert first.ttft_s == pytest.approx(LOAD_S + STEP_S)
    assert second.first_token_at_s == pytest.approx(LOAD_S + 2 * STEP_S)  # it is there already


def test_who_has_no_seat_is_passed_over_until_one_is_free() -> None:
    one, other, same, plain = served((1, 2, 1, 0), max_loras=1)

    assert same.scheduled_at_s == plain.scheduled_at_s == pytest.approx(one.first_token_at_s)
    assert other.scheduled_at_s == pytest.approx(max(one.finished_at_s, same.finished_at_s))


def test_the_adapter_that_was_let_go_first_makes_room() -> None:
    seats = AdapterSeats(AdapterLimits(max_loras=2, load_s=LOAD_S))

    assert [seats.take(1), seats.take(2), seats.fits(3)] == [LOAD_S, LOAD_S, False]
    seats.drop(2, 5)
    seats.drop(1, 6)
    assert seats.take(3) == LOAD_S  # where 2 was
    assert seats.take(1) == 0.0
    seats.drop(3, 7)
    assert seats.take(2) == LOAD_S


@pytest.mark.parametrize(
    ("max_loras", "load_s"), [(0, 1.0), (1, -1.0), (1, float("inf"))], ids=["no seat", "negative", "for ever"]
)
def test_limits_that_no_server_has_are_refused(max_loras: int, load_s: float) -> None:
    with pytest.raises(BadEngineConfigError, match=r"AdapterLimits\."):
        AdapterLimits(max_loras=max_loras, load_s=load_s)
