"""The kernel's records of requests: made from arrivals or columns, made anew, checked."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from simulations.fleet import Arrival
from simulations.replica import EngineConfig, RequestTooLongError

from .layout import NOBODY, REQUEST, Records

Column = NDArray[np.float64] | NDArray[np.int32]


def request_records(arrivals: Iterable[Arrival]) -> Records:
    """The kernel's records of requests that have not come yet; arrivals must be in order of time."""
    rows = [(arrival.at_s, arrival.prompt_tokens, arrival.output_tokens) for arrival in arrivals]
    columns = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return requests_of(columns[:, 0], columns[:, 1], columns[:, 2])


def requests_of(arrived_at_s: Column, prompt_tokens: Column, output_tokens: Column) -> Records:
    """The same from columns."""
    records = np.zeros(len(arrived_at_s), REQUEST)
    records["arrived_at_s"], records["prompt_tokens"], records["output_tokens"] = (
        arrived_at_s,
        prompt_tokens,
        output_tokens,
    )
    return forget_course(records)


def forget_course(records: Records) -> Records:
    """The same requests, to be served again."""
    fresh = np.zeros(len(records), REQUEST)
    for field in ("arrived_at_s", "prompt_tokens", "output_tokens"):
        fresh[field] = records[field]
    for field in ("scheduled_at_s", "first_token_at_s", "finished_at_s"):
        fresh[field] = math.nan
    for field in ("next", "prev", "replica"):
        fresh[field] = NOBODY
    return fresh


def check_requests(requests: Records, config: EngineConfig) -> None:
    """Refuse what a server would refuse, and what is not in order of time."""
    total_tokens = requests["prompt_tokens"].astype(np.int64) + requests["output_tokens"]
    if len(requests) and total_tokens.max() > config.max_model_len_tokens:
        number = int(total_tokens.argmax())
        raise RequestTooLongError(
            f"request {number} has {total_tokens[number]} tokens, max_model_len is {config.max_model_len_tokens}"
        )
    if len(requests) and min(requests["prompt_tokens"].min(), requests["output_tokens"].min()) < 1:
        raise ValueError("every request must have at least 1 prompt token and 1 output token")
    if (np.diff(requests["arrived_at_s"]) < 0).any():
        raise ValueError("requests must be in order of their arrival")
