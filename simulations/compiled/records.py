"""The kernel's records of requests: made from arrivals or columns, made anew, checked."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from simulations.fleet import Arrival
from simulations.replica import EngineConfig, RequestTooLongError

from .jit import jit
from .layout import NOBODY, REQUEST, Order, Records

Floats = NDArray[np.float64]
Column = Floats | NDArray[np.int32]
RAW = np.dtype((np.void, REQUEST.itemsize))


def request_records(arrivals: Iterable[Arrival]) -> Records:
    """The kernel's records of requests that have not come yet; arrivals must be in order of time."""
    rows = [(arrival.at_s, arrival.prompt_tokens, arrival.output_tokens) for arrival in arrivals]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return requests_of(columns[:, 0], columns[:, 1], columns[:, 2])


def requests_of(arrived_at_s: Column, prompt_tokens: Column, output_tokens: Column) -> Records:
    """The same from columns."""
    records: Records = np.tile(_BLANK.view(np.uint8), len(arrived_at_s)).view(REQUEST)
    records["arrived_at_s"] = arrived_at_s
    records["prompt_tokens"], records["output_tokens"] = prompt_tokens, output_tokens
    return records


def _blank() -> Records:
    record = np.zeros(1, REQUEST)
    for field in ("scheduled_at_s", "first_token_at_s", "finished_at_s"):
        record[field] = math.nan
    for field in ("next", "prev", "replica"):
        record[field] = NOBODY
    return record


_BLANK = _blank()


def joined(parts: Sequence[Records]) -> Records:
    """One after the other, as bytes: field by field, as numpy copies records, takes ten times as long."""
    return np.concatenate([part.view(RAW) for part in parts]).view(REQUEST)


def forget_course(records: Records) -> Records:
    """The same requests, to be served again."""
    return requests_of(records["arrived_at_s"], records["prompt_tokens"], records["output_tokens"])


@jit
def put_records(requests: Records, places: Order, more: Records) -> None:
    """One record into each of these places."""
    for index in range(len(places)):
        requests[places[index]] = more[index]


@jit
def take_records(requests: Records, taken: Records) -> int:
    """Move those that ended into `taken` and free their places; returns how many these are."""
    count = 0
    for number in range(len(requests)):
        request = requests[number]
        if request["prompt_tokens"] and request["finished_at_s"] > -math.inf:  # NaN: not yet
            taken[count] = request
            count += 1
            request["prompt_tokens"] = 0
            request["finished_at_s"] = math.nan
    return count


@jit
def count_requests(requests: Records, counts: Floats, spacing_s: float, ttft_s: float) -> int:
    """Add each request to the stretch of time in which it arrived: itself, its tokens, whether its TTFT missed.

    `counts` has these three as rows. Returns how many did not miss.
    """
    last, met = counts.shape[1] - 1, 0
    for number in range(len(requests)):
        request = requests[number]
        arrived_at_s = request["arrived_at_s"]
        stretch = min(math.ceil(arrived_at_s / spacing_s), last)
        counts[0, stretch] += 1
        counts[1, stretch] += request["prompt_tokens"] + request["output_tokens"]
        if request["first_token_at_s"] - arrived_at_s <= ttft_s:  # false while there is no first token
            met += 1
        else:
            counts[2, stretch] += 1
    return met


def came(requests: Records) -> Records:
    """Those that have a time; who follows a request that never ended has none."""
    has_time = np.isfinite(requests["arrived_at_s"])
    return requests if has_time.all() else requests[has_time]


def check_requests(requests: Records, config: EngineConfig) -> None:
    """Refuse what a server would refuse."""
    total_tokens = requests["prompt_tokens"].astype(np.int64) + requests["output_tokens"]
    if len(requests) and total_tokens.max() > config.max_model_len_tokens:
        number = int(total_tokens.argmax())
        raise RequestTooLongError(
            f"request {number} has {total_tokens[number]} tokens, max_model_len is {config.max_model_len_tokens}"
        )
    if len(requests) and min(requests["prompt_tokens"].min(), requests["output_tokens"].min()) < 1:
        raise ValueError("every request must have at least 1 prompt token and 1 output token")


def check_order(arrived_at_s: Floats) -> None:
    """Refuse what is not in order of time."""
    if (np.diff(arrived_at_s) < 0).any():
        raise ValueError("requests must be in order of their arrival")
