"""How many requests the API server gets from us: plenty while it answers, few while it fails."""

from metrics.clock import Clock

# A new leader of 500 services writes each status once: within 5 s, which the API's own fairness takes without a blink.
REQUESTS_PER_S = 100.0
BURST_REQUESTS = 200
# A server that comes back after an outage must not be met by a crowd: with the election's client, which has a
# budget of its own and asks every two seconds, a controller stays below 10/s.
REQUESTS_PER_S_FAILING = 8.0
# A longer Retry-After is a server's mistake; we ask again, once.
RETRY_AFTER_MAX_S = 60.0


class RequestBudget:
    """A leaky bucket over all requests of one client (GCRA), shared by all tasks of one event loop."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at_s = 0.0  # when the bucket would be empty again
        self._closed_until_s = 0.0
        self._is_failing = False

    async def acquire(self) -> None:
        """Wait for this request's turn."""
        await self._clock.sleep(self.reserve())

    def reserve(self) -> float:
        """Take the next turn; returns how long to wait for it."""
        now_s = self._clock.now_s()
        interval_s = 1.0 / (REQUESTS_PER_S_FAILING if self._is_failing else REQUESTS_PER_S)
        burst = 1 if self._is_failing else BURST_REQUESTS
        self._free_at_s = max(now_s, self._free_at_s) + interval_s
        return max(0.0, self._free_at_s - burst * interval_s - now_s, self._closed_until_s - now_s)

    def answered(self) -> None:
        """The server answered, if only to say no."""
        self._is_failing = False

    def failed(self, retry_after_s: float | None = None) -> None:
        """No answer, a server error, or a request to slow down."""
        self._is_failing = True
        if retry_after_s is not None:
            wait_s = min(retry_after_s, RETRY_AFTER_MAX_S)
            self._closed_until_s = max(self._closed_until_s, self._clock.now_s() + wait_s)


def backoff_s(failures: int, *, first_s: float, cap_s: float, draw: float) -> float:
    """Exponential back-off with jitter: between half and all of first × 2^(failures-1), at most the cap."""
    full_s = min(cap_s, first_s * 2.0 ** min(failures - 1, 30))
    return full_s * (0.5 + 0.5 * draw)
