"""One request of a trace as a value, for what takes them one by one; columns are in `simulations.traces`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """One request: when it comes (seconds after the first one) and how long it is."""

    at_s: float
    prompt_tokens: int
    output_tokens: int

    def __post_init__(self) -> None:
        if not 0 <= self.at_s < float("inf"):
            raise ValueError(f"at_s must be ≥ 0 and finite, got {self.at_s}")
        if self.prompt_tokens < 0 or self.output_tokens < 0:
            raise ValueError(f"tokens must be ≥ 0, got {self.prompt_tokens} and {self.output_tokens}")
