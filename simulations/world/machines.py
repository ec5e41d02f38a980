"""What a replica is, and what it is instead on nodes of one class of GPU."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

from simulations.replica import EngineConfig, StepTimes


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Limits, and what a step costs."""

    config: EngineConfig
    times: StepTimes

    def beside(self, before: "Machine", now: "Machine") -> Self:
        """The same where the usual one turns out to be another: its steps and its KV cache keep their ratio to that.

        A limit of its own stays; one that was the usual one's is that of the new one.
        """
        names = [field.name for field in fields(EngineConfig)]
        own = {name: getattr(self.config, name) for name in names}
        kept = {name: value for name, value in own.items() if value != getattr(before.config, name)}
        if "num_gpu_blocks" in kept:
            ratio = self.config.num_gpu_blocks / before.config.num_gpu_blocks
            kept["num_gpu_blocks"] = round(ratio * now.config.num_gpu_blocks)
        return replace(
            self, config=replace(now.config, **kept), times=_times_beside(self.times, before.times, now.times)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMachine(Machine):
    """What a replica is on nodes of one class of GPU."""

    gpu_class: str


def on(gpu_class: str | None, on_class: Sequence[ClassMachine], usual: Machine) -> Machine:
    """What a replica is on a class: the usual machine where nothing is said of it."""
    return next((one for one in on_class if one.gpu_class == gpu_class), usual)


def _times_beside(its: StepTimes, before: StepTimes, now: StepTimes) -> StepTimes:
    """Part by part; what every step takes is one part, whether a profile knows which of it is the host's or not."""
    always = _ratio(its.base_s + its.overhead_s, before.base_s + before.overhead_s)
    parts = ("prefill_token_s", "decode_sequence_s", "kv_token_s", "attention_pair_s")
    scaled = {name: getattr(now, name) * _ratio(getattr(its, name), getattr(before, name)) for name in parts}
    return StepTimes(base_s=now.base_s * always, overhead_s=now.overhead_s * always, **scaled)


def _ratio(its: float, before: float) -> float:
    """1 where there is nothing to be a multiple of."""
    return its / before if before else 1.0
