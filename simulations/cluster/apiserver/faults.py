"""Trouble on demand: errors for the next requests, and delay for all of them."""

from dataclasses import dataclass

from simulations.cluster.api import ApiError
from simulations.cluster.apiserver.calls import Call
from simulations.cluster.apiserver.errors import REASONS


@dataclass(slots=True, kw_only=True)
class Fault:
    """An answer for the next `count` fitting requests. Empty `verb` and `plural` fit all."""

    code: int
    count: int = 1
    verb: str = ""
    plural: str = ""
    retry_after_s: int | None = None

    def fits(self, call: Call) -> bool:
        return self.verb in ("", call.verb) and self.plural in ("", call.plural)

    def error(self) -> ApiError:
        details = {} if self.retry_after_s is None else {"retryAfterSeconds": self.retry_after_s}
        reason = REASONS.get(self.code, "InternalError")
        return ApiError(self.code, reason, f"injected {self.code} {reason}", details)


class Faults:
    """The faults that wait for requests."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def clear(self) -> None:
        self._waiting.clear()

    def check(self, call: Call) -> None:
        """Raise the first waiting fault that fits."""
        for fault in self._waiting:
            if fault.fits(call):
                fault.count -= 1
                if fault.count <= 0:
                    self._waiting.remove(fault)
                raise fault.error()
