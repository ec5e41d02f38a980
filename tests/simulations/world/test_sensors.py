"""The compiled sensors against plain ones: the controller's own windows, edges and periods, and PromQL's rules."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import accumulate
from random import Random

import numpy as np
import pytest

from autoscaler import rhythm
from autoscaler.collect import Collector
from autoscaler.kube.views import pod_view
from autoscaler.policy.spec import PolicySpec
from autoscaler.settings import ServicePolicy
from metrics.clock import ManualClock
from metrics.sample import EngineSample, Histogram, PodSignals
from metrics.window import Window
from simulations.compiled import sight
from simulations.compiled.fleet import CompiledFleet
from simulations.compiled.layout import GAP_BOUNDS_S, TTFT_BOUNDS_S
from simulations.compiled.records import requests_of
from simulations.policies import build
from simulations.policies.base import Bounds, Cadence, Events, Policy, SignalsWithPaces
from simulations.policies.catalog import warmtide_spec
from simulations.policies.warmtide import Warmtide
from simulations.replica import PROFILES, EngineConfig
from simulations.world import Setting, simulate
from simulations.world.sensing.sensors import Sensing
from simulations.world.starts.startup import StartupTimes

BOUNDS_S, GAPS_S = (*TTFT_BOUNDS_S, math.inf), (*GAP_BOUNDS_S, math.inf)


KEY = "default/llm"
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}


class Collecting:
    """The controller's own collector: told what pods there are and what they said, it says when to read all, and wakes.

    A round's pages are at hand at once here, as if no scrape took time.
    """

    def __init__(self, events: Events) -> None:
        self.policy = ServicePolicy(
            name="default/gold", spec=PolicySpec(targets=events.targets), endpoint=events.endpoint
        )
        self.clock = ManualClock(0.0)
        self.woken: list[str] = []
        self.hastened: list[str] = []
        self.collector = Collector(self.clock, wake=self.woken.append)
        self.collector.hasten = self.hastened.append
        self.uids: dict[int, str] = {}
        self.begun = 0

    def begin(self, slot: int) -> None:
        self.begun += 1
        self.uids[slot] = f"replica-{self.begun}"
        self.watch()

    def leave(self, slot: int) -> None:
        self.uids.pop(slot, None)
        self.watch()

    def watch(self) -> None:
        pods = [
            pod_view({"metadata": {"name": uid, "uid": uid}, "status": {"podIP": "10.0.0.1", "conditions": [READY]}})
            for uid in self.uids.values()
        ]
        self.collector.watch(KEY, pods, self.policy)

    def said(self, slot: int, sample: EngineSample) -> list[int]:
        """Slots that are to be read now."""
        self.clock.advance(max(0.0, sample.observed_at_s - self.clock.now_s()))
        self.collector.on_result(self.uids[slot], sample)
        hastened = [slot for slot, uid in self.uids.items() if uid in self.hastened]
        self.hastened.clear()
        return hastened

    def was_woken(self) -> bool:
        was, self.woken[:] = bool(self.woken), []
        return was


class PlainSensors:
    """As `Sensors`, read by read, from the controller's own `Window` and, where it is woken, its own `Collector`."""

    def __init__(self, fleet: CompiledFleet, cadence: Cadence, random: Random, *, slots: int) -> None:
        self.fleet, self.cadence, self.random = fleet, cadence, random
        self.period_s = cadence.scrape_s
        self.together = cadence.events is None and cadence.scrape_s == cadence.decide_s
        self.windows: dict[int, Window] = {}
        self.collecting = None if cadence.events is None else Collecting(cadence.events)
        self.due_s: dict[int, float] = {}
        self.leaving: set[int] = set()
        self.held: tuple[float, float | None] = (0.0, None)
        self.gate_due_s = math.inf if self.together else random.random() * self.period_s

    def begin(self, slot: int, now_s: float) -> None:
        self.windows[slot] = Window()
        if self.collecting is not None:
            self.collecting.begin(slot)
        self.leaving.discard(slot)
        self.due_s[slot] = math.inf if self.together else now_s + self.random.random() * self.period_s

    def leave(self, slot: int) -> None:
        self.windows.pop(slot, None)
        self.due_s.pop(slot, None)
        if self.collecting is not None:
            self.collecting.leave(slot)
        self.leaving.add(slot)

    def end(self, slot: int) -> None:
        self.leave(slot)
        self.leaving.discard(slot)

    def move(self, until_s: float) -> tuple[float, bool]:
        while True:
            now_s = min([self.gate_due_s, *self.due_s.values()])
            if now_s > until_s:
                self.fleet.advance(until_s)
                return until_s, False
            self.fleet.advance(now_s)
            left = any(self.fleet.outstanding(slot) == 0 for slot in self.leaving)
            for slot in [slot for slot, due_s in self.due_s.items() if due_s <= now_s]:
                self.due_s[slot] += self.period_s
                self.read(slot, now_s)
            holds_more = False
            if self.gate_due_s <= now_s:
                self.gate_due_s += self.cadence.scrape_s
                holds_more = self.read_gate(now_s)
            if self.collecting is not None and (self.collecting.was_woken() or holds_more or left):
                return now_s, True

    def read_all(self, now_s: float) -> None:
        self.read_gate(now_s)
        for slot in self.windows:
            self.read(slot, now_s)

    def read_gate(self, now_s: float) -> bool:
        before, self.held = self.held[0], (float(self.fleet.held_requests), now_s)
        return self.held[0] > before

    def read(self, slot: int, now_s: float) -> None:
        sample = page(self.fleet, slot, now_s)
        if self.windows[slot].add(sample) and self.collecting is not None:
            for other in self.collecting.said(slot, sample):
                self.read(other, now_s)

    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]:
        if self.together:
            self.read_all(now_s)
        span_s = rhythm.rate_span_s(self.cadence.scrape_s)
        signals = [self.windows[slot].signals(now_s=now_s, span_s=span_s) for slot in slots]
        if not self.cadence.reads_rates:
            signals = [found and gauges_of(found) for found in signals]
        events = self.cadence.events
        if events is not None:
            said = [found for found in signals if found is not None]
            is_busy = not said or any(found.running_requests or found.waiting_requests for found in said)
            max_age_s = events.targets.max_age_s
            self.period_s = rhythm.scrape_period_s(events.endpoint, len(slots), is_busy=is_busy, max_age_s=max_age_s)
        return signals


class PlainPrometheus:
    """As `PrometheusSensors`, with every page kept for ever and every query by its definition."""

    def __init__(self, fleet: CompiledFleet, cadence: Cadence, random: Random, *, slots: int) -> None:
        assert cadence.queries is not None
        self.fleet, self.random, self.queries, self.period_s = fleet, random, cadence.queries, cadence.scrape_s
        self.window_s = cadence.queries.window_s if cadence.reads_rates else 0.0
        self.router_due_s = random.random() * self.period_s
        self.stages = [(period, random.random() * period) for period in cadence.queries.stages_s(self.period_s)]
        self.reads_gaps = cadence.reads_gaps
        fleet.count_paces()
        self.due_s: dict[int, float] = {}
        self.pages: dict[int, list[EngineSample]] = {}
        self.paces: dict[int, list[Histogram]] = {}
        self.counted: list[tuple[float, float]] = []
        self.held: tuple[float, float | None] = (0.0, None)

    def begin(self, slot: int, now_s: float) -> None:
        phase_s = self.random.random() * self.period_s
        self.due_s[slot] = self.router_due_s if self.queries.is_of_router else now_s + phase_s
        self.pages[slot], self.paces[slot] = [], []

    def leave(self, slot: int) -> None:
        self.due_s.pop(slot, None)

    def end(self, slot: int) -> None:
        self.leave(slot)

    def move(self, until_s: float) -> tuple[float, bool]:
        while (now_s := min([self.router_due_s, *self.due_s.values()])) <= until_s:
            self.fleet.advance(now_s)
            for slot in [slot for slot, due_s in self.due_s.items() if due_s <= now_s]:
                self.due_s[slot] += self.period_s
                self.pages[slot].append(page(self.fleet, slot, now_s))
                self.paces[slot].append(paces(self.fleet, slot))
            if self.router_due_s <= now_s:
                self.router_due_s += self.period_s
                self.counted.append((now_s, float(self.fleet.held_requests)))
        self.fleet.advance(until_s)
        return until_s, False

    def look(self, slots: Sequence[int], now_s: float) -> list[PodSignals | None]:
        for period_s, phase_s in reversed(self.stages):
            now_s = phase_s + math.floor((now_s - phase_s) / period_s) * period_s
        counted = [(held, at_s) for at_s, held in self.counted if now_s - 300.0 < at_s <= now_s]
        self.held = counted[-1] if counted else (0.0, None)
        return [self.told(slot, now_s) for slot in slots]

    def told(self, slot: int, now_s: float) -> PodSignals | None:
        pages = self.pages[slot]
        recent = [sample for sample in pages if now_s - 300.0 < sample.observed_at_s <= now_s]
        inside = [sample for sample in pages if now_s - self.window_s < sample.observed_at_s <= now_s]
        if not recent:
            return None
        plain = PodSignals(
            observed_at_s=recent[-1].observed_at_s,
            window_s=0.0,
            running_requests=recent[-1].running_requests,
            waiting_requests=recent[-1].waiting_requests,
            kv_cache_usage_ratio=recent[-1].kv_cache_usage_ratio,
            is_awake=True,
        )
        if len(inside) < 2:
            return plain
        names = ("prompt_tokens", "computed_prompt_tokens", "generation_tokens", "preemptions", "finished_requests")
        at_s = [sample.observed_at_s for sample in inside]

        def rate(name: str) -> float:
            return self.increase([getattr(sample, f"{name}_total") for sample in inside], at_s, now_s) / self.window_s

        rates = {f"{name}_per_s": rate(name) for name in names}
        ttft_s = self.grown([sample.ttft_s for sample in inside], at_s, now_s)
        told = replace(plain, window_s=self.window_s, ttft_s=ttft_s, **rates)
        if not self.reads_gaps:
            return told
        itl_s = self.grown([sample.itl_s for sample in inside], at_s, now_s)
        pace = self.paces[slot][pages.index(inside[0]) :][: len(inside)]
        known = {field.name: getattr(told, field.name) for field in fields(told)} | {"itl_s": itl_s}
        return SignalsWithPaces(**known, tpot_s=self.grown(pace, at_s, now_s))

    def grown(self, found: Sequence[Histogram | None], at_s: Sequence[float], now_s: float) -> Histogram:
        known = [one for one in found if one is not None]
        bounds = known[0].bounds
        counts = [self.increase([one.counts[bucket] for one in known], at_s, now_s) for bucket in range(len(bounds))]
        return Histogram(
            bounds=bounds, counts=tuple(counts), sum=self.increase([one.sum for one in known], at_s, now_s)
        )

    def increase(self, values: Sequence[float], at_s: Sequence[float], now_s: float) -> float:
        first_s, last_s = at_s[0], at_s[-1]
        grown, sampled_s, gap_s = values[-1] - values[0], last_s - first_s, (last_s - first_s) / (len(at_s) - 1)
        edges_s = (first_s - (now_s - self.window_s), now_s - last_s)
        before_s, after_s = (edge_s if edge_s < 1.1 * gap_s else gap_s / 2 for edge_s in edges_s)
        if grown > 0:
            before_s = min(before_s, sampled_s * values[0] / grown)
        found: float = grown * (sampled_s + before_s + after_s) / sampled_s
        return found


def page(fleet: CompiledFleet, slot: int, now_s: float) -> EngineSample:
    gauges = fleet.gauges(slot)
    return EngineSample(
        observed_at_s=now_s,
        running_requests=gauges.running_requests,
        waiting_requests=gauges.waiting_requests,
        kv_cache_usage_ratio=gauges.kv_cache_usage_ratio,
        prompt_tokens_total=gauges.prompt_tokens_total,
        computed_prompt_tokens_total=gauges.prompt_tokens_total,
        generation_tokens_total=gauges.generation_tokens_total,
        preemptions_total=gauges.preemptions_total,
        finished_requests_total=gauges.finished_requests_total,
        ttft_s=Histogram(
            bounds=BOUNDS_S, counts=tuple(map(float, accumulate(gauges.ttft_counts))), sum=gauges.ttft_sum_s
        ),
        itl_s=Histogram(bounds=GAPS_S, counts=tuple(map(float, accumulate(gauges.itl_counts))), sum=gauges.itl_sum_s),
        is_awake=True,
    )


def paces(fleet: CompiledFleet, slot: int) -> Histogram:
    gauges = fleet.gauges(slot)
    counts = tuple(map(float, accumulate(gauges.tpot_counts)))
    return Histogram(bounds=GAPS_S, counts=counts, sum=gauges.tpot_sum_s)


def gauges_of(signals: PodSignals) -> PodSignals:
    return PodSignals(
        observed_at_s=signals.observed_at_s,
        window_s=0.0,
        running_requests=signals.running_requests,
        waiting_requests=signals.waiting_requests,
        kv_cache_usage_ratio=signals.kv_cache_usage_ratio,
        is_awake=True,
    )


def setting(seed: int) -> Setting:
    rng = np.random.default_rng(seed)
    span_s, mean_per_s = 900.0, 20.0
    drawn_s = np.sort(rng.uniform(0.0, span_s, rng.poisson(span_s * mean_per_s)))
    at_s = drawn_s + 60.0 * np.sin(drawn_s / 120.0)  # waves of three to one
    order = np.argsort(at_s)
    prompts = np.clip(rng.lognormal(6.5, 1.0, len(at_s)), 1, 8000).astype(np.int32)
    outputs = np.clip(rng.lognormal(5.0, 0.8, len(at_s)), 1, 1000).astype(np.int32)
    return Setting(
        requests=requests_of(at_s[order] - at_s[order][0], prompts, outputs),
        config=EngineConfig(caches_prefixes=False, num_gpu_blocks=6000, max_model_len_tokens=32_768),
        times=PROFILES["llama-3.1-8b-l40s"],
        bounds=Bounds(low=1, high=12),
        replicas_at_start=4,
        startup=StartupTimes(cold_s=60.0, warm_s=30.0),
        seed=seed,
    )


def named(name: str, shared: Setting) -> Policy:
    if name != "warmtide between tokens":
        return build(name, shared.bounds, ttft_s=2.0, lead_time_s=60.0)
    spec = warmtide_spec(shared.bounds, ttft_s=2.0, lead_time_s=60.0)
    return Warmtide(spec=replace(spec, objectives=replace(spec.objectives, itl_s=0.12)))


@pytest.mark.parametrize(
    ("name", "sensing"),
    [
        ("warmtide", PlainSensors),
        ("warmtide between tokens", PlainSensors),
        ("hpa-queue", PlainPrometheus),
        ("keda-slo", PlainPrometheus),
        ("kpa", PlainSensors),
        ("wva-token", PlainPrometheus),
        ("dynamo-load", PlainSensors),
    ],
)
@pytest.mark.parametrize("seed", [1, 2])
def test_compiled_sensors_lead_to_the_decisions_of_plain_ones(name: str, sensing: type[Sensing], seed: int) -> None:
    shared = setting(seed)
    policies = [named(name, shared) for _ in range(2)]

    fast = simulate(shared, policies[0])
    plain = simulate(shared, policies[1], sensing=sensing)

    assert fast == plain
    assert fast.requests.tobytes() == plain.requests.tobytes()
    assert len(fast.decisions) > 2


def test_what_wakes_the_controller_wakes_a_simulated_policy() -> None:
    assert sight.rhythm.level is rhythm.level
    for compiled, own in ((sight.level, rhythm.level), (sight.is_news, rhythm.is_news)):
        assert getattr(compiled, "py_func", compiled) is own


def test_a_policy_is_woken_within_two_seconds_of_a_queue_that_grows() -> None:
    shared = replace(setting(1), replicas_at_start=1)
    policy = build("warmtide", shared.bounds, ttft_s=2.0, lead_time_s=60.0)

    outcome = simulate(shared, policy)

    first = outcome.decisions[0]
    requests = outcome.requests
    waited_s = requests["scheduled_at_s"] - requests["arrived_at_s"]
    first_wait_s = requests["arrived_at_s"][waited_s > 0.5].min()
    assert first.at_s - first_wait_s < 2 * 2.0
