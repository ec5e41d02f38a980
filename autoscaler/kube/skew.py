"""How far the API server's clock is from ours, by the `Date` of its answers (RFC 9110 §6.6.1: whole seconds).

The API stamps pods with its own time. Held against ours as they are, a machine ten minutes ahead takes every pod that
starts for overdue, and orders another for each.
"""

import statistics
from collections import deque
from email.utils import parsedate_to_datetime

# The median of so many answers: one from a proxy's cache, or of one server of three that is wrong, moves nothing.
ANSWERS_KEPT = 9
# What took longer says too little of when it was written.
ROUND_TRIP_MAX_S = 2.0
# Less than this is the header's rounding and the way; clocks that are kept in step differ by milliseconds.
NOISE_S = 2.0


class ServerClock:
    """Fed with answers; `ahead_s` is what to take off a server's time to have it in ours."""

    def __init__(self) -> None:
        self._seen_s: deque[float] = deque(maxlen=ANSWERS_KEPT)

    def heard(self, date: str | None, *, sent_at_s: float, answered_at_s: float) -> None:
        """An answer with this header, or without one."""
        if date is None or answered_at_s - sent_at_s > ROUND_TRIP_MAX_S:
            return
        try:
            server_s = parsedate_to_datetime(date).timestamp() + 0.5
        except (ValueError, TypeError, OverflowError):
            return  # no date: whoever wrote it is no API server
        self._seen_s.append(server_s - (sent_at_s + answered_at_s) / 2.0)

    @property
    def ahead_s(self) -> float:
        """Positive: the server's clock is ahead of ours. 0: as far as can be told they agree, or nothing was heard."""
        median_s = statistics.median(self._seen_s) if self._seen_s else 0.0
        return median_s if abs(median_s) > NOISE_S else 0.0
