"""Scenario files: YAML that a person wrote, as a `Scenario`, or one line that says what is wrong with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError
from pydantic.alias_generators import to_camel

from simulations.compiled.fleet import Router
from simulations.derive_figures import lengths_from
from simulations.errors import ScenarioError
from simulations.policies.base import Bounds
from simulations.prefixes import load_prefixes
from simulations.replica import PROFILES, BadEngineConfigError, EngineConfig, profile_gpus
from simulations.scenarios.draw import Generated, Recorded, Traffic, Window
from simulations.scenarios.nodes import ClassPart, NodesPart, check_fits, made_classes, made_nodes
from simulations.scenarios.parts import Burstiness, Count, Part, Positive, Ratio, Seconds
from simulations.scenarios.scenario import Scenario, Together
from simulations.scenarios.sensors import SensorsPart
from simulations.scenarios.serving import AdaptersPart, ClientsPart, PoolsPart
from simulations.scenarios.startup import StartupPart
from simulations.traces import FORMATS
from simulations.traces.reshape import Scale
from simulations.traffic import load_figures, load_rates
from simulations.world.machines import Machine
from simulations.world.starts.phases import Phases
from simulations.world.starts.shared import check_shared

FILE_BYTES_MAX = 100_000  # a scenario has some thirty lines
SERVICE_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # a folder of results is called so
SERVICES_MAX = 50  # each has all its requests in memory


class _Traffic(Part):
    trace: str | None = None
    format: str | None = None
    rates: str | None = None
    lengths: str | None = None
    waves: str | None = None
    prefixes: str | None = None
    requests_per_second: Positive | None = None
    burstiness: Burstiness = 1.0
    begin_seconds: Seconds = 0.0
    end_seconds: Positive | None = None
    rate_ratio: Ratio = 1.0
    prompt_ratio: Ratio = 1.0
    output_ratio: Ratio = 1.0


class _Machine(Part):
    profile: str
    gpus: Count | None = None  # as the profile's name says
    gpu_class: str | None = None
    classes: dict[str, ClassPart] = Field(default_factory=dict)
    max_num_seqs: Count | None = None
    max_num_batched_tokens: Count | None = None
    num_gpu_blocks: Count | None = None
    max_model_len_tokens: Count | None = None


class _Replicas(Part):
    min: Count = 1
    max: Count


class _Objective(Part):
    ttft_seconds: Positive = 2.0
    itl_seconds: Positive | None = None


class _Service(Part):
    traffic: _Traffic
    machine: _Machine
    replicas: _Replicas
    objective: _Objective = _Objective()
    startup: StartupPart = StartupPart()
    router: Router = Router.LEAST_OUTSTANDING
    sensors: SensorsPart = SensorsPart()
    clients: ClientsPart | None = None
    pools: PoolsPart | None = None
    adapters: AdaptersPart | None = None


class _Place(Part):
    says: str = ""
    nodes: tuple[NodesPart, ...] = ()
    budget_gpus: Count | None = None


class _Scenario(_Place, _Service):
    """One service, and where it is."""


class _Named(_Service):
    name: Annotated[str, Field(max_length=40, pattern=SERVICE_NAME)]


class _Together(_Place):
    nodes: Annotated[tuple[NodesPart, ...], Field(min_length=1)]
    services: Annotated[list[_Named], Field(min_length=2, max_length=SERVICES_MAX)]


def parse_scenario(text: str, name: str, folder: Path) -> Scenario | Together:
    """A scenario from its YAML; paths in it count from `folder`. ScenarioError names field and value."""
    try:
        document = _document(text)
        if isinstance(document, dict) and "services" in document:
            return _together(_Together.model_validate(document), name, folder)
        found = _Scenario.model_validate(document)
        return _scenario(found, found, name, folder)
    except ValidationError as exc:
        raise ScenarioError(f"scenario {name}: {_first(exc)}") from exc
    except (BadEngineConfigError, ValueError) as exc:
        raise ScenarioError(f"scenario {name}: {exc}") from exc


def _together(found: _Together, name: str, folder: Path) -> Together:
    names = [service.name for service in found.services]
    if len(set(names)) < len(names):
        raise ValueError(f"services: a name of its own is expected for each, got {', '.join(names)}")
    services = tuple(_scenario(service, found, service.name, folder) for service in found.services)
    check_shared([service.startup for service in services if isinstance(service.startup, Phases)])
    return Together(name=name, says=found.says, services=services)


def _scenario(found: _Service, place: _Place, name: str, folder: Path) -> Scenario:
    limits = found.machine.model_dump(exclude={"profile", "gpus", "gpu_class", "classes"}, exclude_none=True)
    profile = _known("machine.profile", found.machine.profile, PROFILES)
    nodes = made_nodes(place.nodes)
    gpus = found.machine.gpus or profile_gpus(profile) or 1
    check_fits(nodes, gpus=gpus, gpu_class=found.machine.gpu_class)
    engine, classes = EngineConfig(caches_prefixes=False, **limits), found.machine.classes
    usual = Machine(config=engine, times=PROFILES[profile])
    pool = None if found.pools is None else found.pools.made(usual, classes, nodes)
    check_fits(nodes, gpus=gpus, gpu_class=None if pool is None or pool.bounds is None else pool.gpu_class)
    return Scenario(
        name=name,
        says=place.says,
        traffic=_traffic(found.traffic, folder),
        profile=profile,
        times=usual.times,
        engine=engine,
        bounds=Bounds(low=found.replicas.min, high=found.replicas.max),
        ttft_s=found.objective.ttft_seconds,
        itl_s=found.objective.itl_seconds,
        startup=found.startup.made(),
        router=found.router,
        monitoring=found.sensors.monitoring(),
        faults=found.sensors.made_faults(),
        fixed_pool=pool,
        adapters=None if found.adapters is None else found.adapters.made(),
        clients=None if found.clients is None else found.clients.made(),
        gpus_per_replica=gpus,
        gpu_class=found.machine.gpu_class,
        on_class=made_classes(classes, nodes, usual),
        nodes=nodes,
        budget_gpus=place.budget_gpus,
    )


def _document(text: str) -> object:
    if len(text) > FILE_BYTES_MAX:
        raise ValueError(f"expected at most {FILE_BYTES_MAX:,} bytes of YAML")
    if not text.strip():
        raise ValueError("the file is empty; expected fields, as `warmtide sim scenarios NAME` shows them")
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as exc:
        mark = getattr(exc, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}expected YAML: {getattr(exc, 'problem', None) or 'it is nested too deep'}") from exc


def _traffic(found: _Traffic, folder: Path) -> Traffic:
    window = Window(begin_s=found.begin_seconds, end_s=found.end_seconds or float("inf"))
    if window.end_s <= window.begin_s:
        raise ValueError(f"traffic.endSeconds must be after beginSeconds, got {window.end_s:g}")
    if (found.trace is None) == (found.rates is None):
        raise ValueError("traffic needs either a trace (a file) or rates (figures that ship)")
    if found.trace is not None:
        return _recorded(found, window, folder / found.trace)
    return _generated(found, window)


def _recorded(found: _Traffic, window: Window, path: Path) -> Recorded:
    for field in ("waves", "prefixes", "requests_per_second"):
        if getattr(found, field) is not None:
            raise ValueError(f"traffic.{to_camel(field)} goes with rates, not with a trace")
    if found.burstiness != 1.0:
        raise ValueError("traffic.burstiness goes with rates, not with a trace")
    scale = Scale(rate_ratio=found.rate_ratio, prompt_ratio=found.prompt_ratio, output_ratio=found.output_ratio)
    name = None if found.format is None else _known("traffic.format", found.format, FORMATS)
    lengths = None if found.lengths is None else lengths_from(found.lengths)
    return Recorded(path=path, format_name=name, window=window, scale=scale, lengths=lengths)


def _generated(found: _Traffic, window: Window) -> Generated:
    try:
        rates = load_rates(found.rates or "")
        lengths = load_figures(found.lengths or found.rates or "")
        waves = None if found.waves is None else load_rates(found.waves)
        prefixes = None if found.prefixes is None else load_prefixes(found.prefixes)
    except KeyError as exc:
        raise ValueError(f"traffic: {exc.args[0]}") from exc
    if window.begin_s >= rates.span_s:
        raise ValueError(f"traffic.beginSeconds must be before {rates.span_s:g}, got {window.begin_s:g}")
    mean_per_s = sum(rates.arrivals_per_bin) / rates.span_s
    return Generated(
        rates=rates,
        lengths=lengths,
        requests_per_s=(found.requests_per_second or mean_per_s) * found.rate_ratio,
        window=window,
        waves=waves,
        prompt_ratio=found.prompt_ratio,
        output_ratio=found.output_ratio,
        prefixes=prefixes,
        burstiness=found.burstiness,
    )


def _known(field: str, value: str, names: Mapping[str, object]) -> str:
    if value not in names:
        raise ValueError(f"{field}: no {value!r}; there are: {', '.join(names)}")
    return value


def _first(exc: ValidationError) -> str:
    """The first thing that is wrong, by its place in the file."""
    errors = exc.errors(include_url=False)
    # A misspelt field is the cause of the missing one beside it.
    error = min(errors, key=lambda one: one["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in error["loc"]) or "the file"
    value = {"missing": "", "extra_forbidden": "; `warmtide sim scenarios --parts` has the fields"}.get(
        error["type"], f", got {str(error['input'])[:40]!r}"
    )
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{place}: {error['msg']}{value}{more}"
