"""The options that say what is simulated, and the `Setting` that they make."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from simulations.calibration.profile_file import read_profile
from simulations.commands.counts import seed
from simulations.derive_figures import lengths_from
from simulations.errors import UsageError
from simulations.policies import NAMES, Bounds
from simulations.policies.catalog import FORESIGHT, MENDED
from simulations.replica import PROFILES, profile_gpus
from simulations.scenarios import NAMES as SCENARIO_NAMES
from simulations.scenarios import TOGETHER, Scenario, load_scenario
from simulations.scenarios.draw import Recorded
from simulations.traces import FORMATS
from simulations.world import Setting
from simulations.world.machines import Machine
from simulations.world.starts.caches import Keeping
from simulations.world.starts.phases import Phases
from simulations.world.starts.startup import StartupTimes

SEED_DEFAULT = 1
SCENARIO_DEFAULT = "chat-hour"  # its machine also serves a trace that comes without one


Value = TypeVar("Value")


def add_setting(parser: argparse.ArgumentParser) -> None:
    """Traffic, machine, bounds, objective, seed."""
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--trace", type=Path, metavar="FILE", help="recorded traffic (see: warmtide sim trace formats)")
    source.add_argument(
        "--scenario",
        metavar="NAME|FILE.yaml",
        help=f"one of {', '.join((*SCENARIO_NAMES, *TOGETHER))} (see: warmtide sim scenarios), or a file; "
        f"default {SCENARIO_DEFAULT}",
    )
    parser.add_argument(
        "--format", choices=FORMATS, metavar="NAME", help="of the trace; default: as its first line shows"
    )
    parser.add_argument(
        "--lengths", metavar="NAME|FILE", help="of requests drawn from rates: figures, or another trace's"
    )
    parser.add_argument(
        "--profile", metavar="NAME|FILE.yaml", help=f"model and GPU: {', '.join(PROFILES)}, or measured"
    )
    parser.add_argument("--replicas-min", type=int, metavar="N", help="never fewer; default: the scenario's")
    parser.add_argument("--replicas-max", type=int, metavar="N", help="never more; default: the scenario's")
    parser.add_argument("--ttft", type=float, metavar="SECONDS", help="the objective")
    parser.add_argument("--cold-seconds", type=float, metavar="SECONDS", help="median start-up, weights to come")
    parser.add_argument("--warm-seconds", type=float, metavar="SECONDS", help="median, weights on the node")
    kinds = tuple(keep.value for keep in Keeping)
    parser.add_argument("--caches", choices=kinds, metavar="KIND", help=f"what nodes keep: {', '.join(kinds)}")
    parser.add_argument("--seed", type=seed, default=SEED_DEFAULT, metavar="N", help="of traffic and start-ups")


def make_setting(options: argparse.Namespace) -> Setting:
    """What was asked for; says on stderr how many requests no server would take. UsageError, TraceError."""
    return setting_of(scenario_of(options), options.seed)


def scenario_of(options: argparse.Namespace) -> Scenario:
    """The scenario with what the other options change of it; its traffic is not drawn yet."""
    scenario = load_scenario(options.scenario or SCENARIO_DEFAULT)
    if options.trace is not None:
        lengths = None if options.lengths is None else lengths_from(options.lengths)
        traffic = Recorded(path=options.trace, format_name=options.format, lengths=lengths)
        scenario = replace(scenario, name=options.trace.name, says="", traffic=traffic)
    scenario = _on_profile(scenario, options.profile)
    bounds = scenario.bounds
    try:
        return replace(
            scenario,
            bounds=Bounds(low=_or(options.replicas_min, bounds.low), high=_or(options.replicas_max, bounds.high)),
            ttft_s=_or(options.ttft, scenario.ttft_s),
            startup=_startup(scenario.startup, options),
        )
    except ValueError as exc:
        raise UsageError(str(exc)) from exc


def _startup(startup: StartupTimes | Phases, options: argparse.Namespace) -> StartupTimes | Phases:
    """With other medians or other caches, where they are asked for."""
    if isinstance(startup, Phases):
        if options.cold_seconds is not None or options.warm_seconds is not None:
            raise UsageError("--cold-seconds and --warm-seconds: these replicas start by phases, which decide them")
        return startup if options.caches is None else startup.keeping(Keeping(options.caches))
    if options.caches is not None:
        raise UsageError(
            f"--caches {options.caches}: only replicas that start by phases have caches; say startup.caches"
        )
    return replace(
        startup,
        cold_s=_or(options.cold_seconds, startup.cold_s),
        warm_s=_or(options.warm_seconds, startup.warm_s),
    )


def _on_profile(scenario: Scenario, given: str | None) -> Scenario:
    """On another machine: a shipped one has the scenario's limits, a measured one its own."""
    if given is None:
        return scenario
    if given in PROFILES:
        if scenario.on_class:
            classes = ", ".join(one.gpu_class for one in scenario.on_class)
            raise UsageError(
                f"--profile {given}: the scenario's machine.classes say what a replica is on {classes} beside "
                f"{scenario.profile}; name the profiles of both in its file, or give a measured one"
            )
        return replace(scenario, profile=given, times=PROFILES[given], gpus_per_replica=profile_gpus(given) or 1)
    if not given.endswith((".yaml", ".yml")):
        raise UsageError(f"no profile named {given!r}; there are: {', '.join(PROFILES)}, or a file FILE.yaml")
    measured = read_profile(Path(given))
    gpus = profile_gpus(measured.name) or scenario.gpus_per_replica
    found = scenario.measured(Machine(config=measured.config, times=measured.times))
    return replace(found, profile=measured.name, gpus_per_replica=gpus)


def _or(given: Value | None, default: Value) -> Value:
    return default if given is None else given


def setting_of(scenario: Scenario, seed: int) -> Setting:
    """A scenario with a seed, ready to be simulated."""
    try:
        setting, refused = scenario.setting(seed)
    except ValueError as exc:
        raise UsageError(str(exc)) from exc
    if refused:
        sys.stderr.write(f"warmtide sim: {refused:,} requests left out: empty, or longer than max_model_len\n")
    return setting


def policy_names(given: str) -> tuple[str, ...]:
    """Names of policies, separated by commas."""
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    known = (*NAMES, FORESIGHT, *MENDED)
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        raise UsageError(f"no policy named {', '.join(unknown) or repr(given)}; there are: {', '.join(known)}")
    return names
