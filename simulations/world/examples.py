"""Small worlds of plain numbers, for tests and for trying things out: traffic that anybody can count."""

from dataclasses import replace

from simulations.compiled.fleet import request_records
from simulations.compiled.layout import Records
from simulations.policies import Bounds
from simulations.replica import PROFILES, EngineConfig
from simulations.trace import Arrival

from .setting import Setting
from .starts.phases import Phases
from .starts.startup import StartupTimes

FEW_BLOCKS = EngineConfig(caches_prefixes=False, num_gpu_blocks=4000)  # 64,000 tokens: an L40S runs out of them


def one_a_second(span_s: float, *, prompt_tokens: int = 100, output_tokens: int = 20) -> Records:
    """Requests that are all alike, the first at 0, the last at the end."""
    seconds = range(int(span_s) + 1)
    return request_records(
        Arrival(at_s=float(at_s), prompt_tokens=prompt_tokens, output_tokens=output_tokens) for at_s in seconds
    )


def varied(per_s: float, span_s: float) -> Records:
    """Requests at even distances, long and short: 300 to 1148 tokens in, 60 to 130 out."""
    return request_records(
        Arrival(at_s=number / per_s, prompt_tokens=300 + 53 * (number % 17), output_tokens=60 + 7 * (number % 11))
        for number in range(int(span_s * per_s) + 1)
    )


def small_world(
    requests: Records,
    startup: Phases | StartupTimes,
    *,
    high: int,
    profile: str = "llama-3.1-8b-l40s",
    **fields: object,
) -> Setting:
    """One replica to begin with and `high` at the most, of an engine without a prefix cache; and whatever differs."""
    usual = Setting(
        requests=requests,
        config=EngineConfig(caches_prefixes=False),
        times=PROFILES[profile],
        bounds=Bounds(low=1, high=high),
        replicas_at_start=1,
        startup=startup,
    )
    return replace(usual, **fields)  # type: ignore[arg-type]  # the caller names real fields, or replace() says so
