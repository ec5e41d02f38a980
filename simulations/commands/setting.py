"""The options that say what is simulated, and the `Setting` that they make."""

import argparse
import sys
from pathlib import Path

from simulations.compiled.fleet import requests_of
from simulations.compiled.layout import Records
from simulations.errors import UsageError
from simulations.policies import NAMES, Bounds
from simulations.replica import PROFILES, EngineConfig
from simulations.scenarios import SCENARIOS, Scenario
from simulations.traces import FORMATS, joined, open_trace
from simulations.world import Setting
from simulations.world.startup import StartupTimes

SEED_DEFAULT = 1
TTFT_DEFAULT_S = 2.0
# vLLM refuses what is longer; the profile's KV cache holds it.
CONFIG = EngineConfig(caches_prefixes=False, num_gpu_blocks=12_000, max_model_len_tokens=32_768)
TRACE_PROFILE = "llama-3.1-8b-l40s"
TRACE_REPLICAS_MAX = 16


def add_setting(parser: argparse.ArgumentParser) -> None:
    """Traffic, machine, bounds, objective, seed."""
    told = "; ".join(f"{scenario.name}: {scenario.says}" for scenario in SCENARIOS.values())
    times = StartupTimes()
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--trace", type=Path, metavar="FILE", help="recorded traffic (warmtide sim trace formats)")
    parser.add_argument("--format", choices=FORMATS, help="of the trace; the default is what its first line shows")
    source.add_argument("--scenario", choices=SCENARIOS, default="chat-hour", help=told)
    parser.add_argument("--profile", choices=PROFILES, help="model and GPU; the default is the scenario's")
    parser.add_argument("--replicas-min", type=int, default=1, metavar="N")
    parser.add_argument("--replicas-max", type=int, metavar="N")
    parser.add_argument("--ttft", type=float, default=TTFT_DEFAULT_S, metavar="SECONDS", help="the objective")
    parser.add_argument(
        "--cold-seconds", type=float, default=times.cold_s, metavar="SECONDS", help="median start-up, weights to come"
    )
    parser.add_argument(
        "--warm-seconds", type=float, default=times.warm_s, metavar="SECONDS", help="median, weights on the node"
    )
    parser.add_argument("--seed", type=int, default=SEED_DEFAULT, metavar="N", help="of traffic and start-ups")


def make_setting(options: argparse.Namespace) -> Setting:
    """What was asked for; says on stderr how many requests no server would take. UsageError, TraceError."""
    try:
        setting, refused = _setting(options)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    if refused:
        sys.stderr.write(f"warmtide sim: {refused} requests left out: empty, or longer than max_model_len\n")
    return setting


def policy_names(given: str) -> tuple[str, ...]:
    """Names of policies, separated by commas."""
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    unknown = [name for name in names if name not in NAMES]
    if unknown or not names:
        raise UsageError(f"no policy named {', '.join(unknown) or repr(given)}; there are: {', '.join(NAMES)}")
    return names


def _setting(options: argparse.Namespace) -> tuple[Setting, int]:
    scenario: Scenario = SCENARIOS[options.scenario]
    if options.trace is None:
        requests, profile, replicas_max = scenario.make(options.seed), scenario.profile, scenario.replicas_max
    else:
        requests, profile, replicas_max = _recorded(options), TRACE_PROFILE, TRACE_REPLICAS_MAX
    requests, refused = _servable(requests)
    bounds = Bounds(
        low=options.replicas_min, high=replicas_max if options.replicas_max is None else options.replicas_max
    )
    setting = Setting(
        requests=requests,
        config=CONFIG,
        times=PROFILES[options.profile or profile],
        bounds=bounds,
        replicas_at_start=bounds.low,
        startup=StartupTimes(cold_s=options.cold_seconds, warm_s=options.warm_seconds),
        ttft_s=options.ttft,
        seed=options.seed,
    )
    return setting, refused


def _recorded(options: argparse.Namespace) -> Records:
    everything = joined(list(open_trace(options.trace, options.format).chunks()))
    return requests_of(everything.at_s, everything.prompt_tokens, everything.output_tokens)


def _servable(requests: Records) -> tuple[Records, int]:
    """Without those that a server would refuse, and how many these are."""
    total_tokens = requests["prompt_tokens"] + requests["output_tokens"]
    fits = (requests["prompt_tokens"] > 0) & (requests["output_tokens"] > 0)
    fits &= total_tokens <= CONFIG.max_model_len_tokens
    return requests[fits], int(len(requests) - fits.sum())
