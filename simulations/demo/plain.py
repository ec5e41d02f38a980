"""The demo as a log, where there is no terminal: a line per change of the number, and a summary now and then."""

import math
from typing import TextIO

from autoscaler.sentences import sentence
from simulations.demo.frame import Frame

SUMMARY_S = 5.0
# A status tells of changes up to two seconds late: lines wait for it, so that the log is in the order of time.
LATE_S = 3.0


class PlainView:
    """Implements `View` on a text stream."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._told = 0  # decisions
        self._due_s = -math.inf
        self._held: list[tuple[float, str]] = []  # lines by their time

    def say(self, text: str) -> None:
        self._release(math.inf)
        self._out.write(f"{text}\n")
        self._out.flush()

    def show(self, frame: Frame) -> None:
        for decision in frame.decisions[self._told :]:
            arrow = f"{decision.before} → {decision.after}"
            line = f"{decision.at_s:6.1f} s  {arrow} replicas: {decision.reason}, {sentence(decision.reason)}"
            self._held.append((decision.at_s, line))
        self._told = len(frame.decisions)
        if frame.now.at_s >= self._due_s:
            self._due_s = frame.now.at_s + SUMMARY_S
            self._held.append((frame.now.at_s, summary(frame)))
        self._release(frame.now.at_s - LATE_S)

    def close(self) -> None:
        self._release(math.inf)

    def _release(self, until_s: float) -> None:
        """Tell what happened up to then."""
        self._held.sort(key=lambda held: held[0])
        while self._held and self._held[0][0] <= until_s:
            self._out.write(f"{self._held.pop(0)[1]}\n")
        self._out.flush()


def summary(frame: Frame) -> str:
    """One line on the state of things."""
    now = frame.now
    whole = "" if frame.requests is None else f" of {frame.requests}"
    ttft = "-" if frame.ttft_p95_s is None else f"{frame.ttft_p95_s:.2f} s"
    return (
        f"{now.at_s:6.1f} s  {now.demand_tokens_per_s:6.0f} tokens/s in, {now.waiting_requests:3.0f} waiting, "
        f"KV {now.kv_cache_usage_ratio:3.0%}, replicas {now.ready} ready + {now.starting} starting "
        f"+ {now.terminating} leaving, {now.served}{whole} served, {now.lost} lost, TTFT p95 {ttft}"
    )
