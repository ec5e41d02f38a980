"""A cap on what one node downloads per second, shared by all of its threads."""

import threading

from metrics.clock import Clock

BURST_S = 0.25  # so much may pass at once after a pause: smooth on the wire, few wake-ups


class Bandwidth:
    """A token bucket in bytes. A rate of 0 means no cap."""

    def __init__(self, bytes_per_s: float, clock: Clock) -> None:
        if bytes_per_s < 0:
            raise ValueError(f"bandwidth {bytes_per_s} bytes/s is negative")
        self._rate = bytes_per_s
        self._clock = clock
        self._lock = threading.Lock()
        self._free_at_s = float("-inf")

    def wait_s(self, count_bytes: int) -> float:
        """Book bytes that have arrived; how long to read nothing more."""
        if not self._rate:
            return 0.0
        with self._lock:
            now_s = self._clock.now_s()
            self._free_at_s = max(self._free_at_s, now_s - BURST_S) + count_bytes / self._rate
            return max(0.0, self._free_at_s - now_s)
