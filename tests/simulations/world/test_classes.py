"""A replica is as fast as the GPUs of its node, and as large."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autoscaler.policy.types import Observation
from simulations.compiled.fleet import request_records
from simulations.errors import ScenarioError
from simulations.imports.choose import chosen
from simulations.policies import Bounds, Cadence, Wish
from simulations.policies.skyserve import SkyServe
from simulations.policies.static import Static
from simulations.replica import PROFILES, EngineConfig
from simulations.scenarios import Scenario
from simulations.scenarios.config import parse_scenario
from simulations.static_fleet import fixed, smallest_static
from simulations.trace import Arrival
from simulations.world import Outcome, Setting, simulate, simulate_together
from simulations.world.machines import ClassMachine
from simulations.world.nodes import NodeGroup
from simulations.world.starts.startup import StartupTimes

CONFIG = EngineConfig(caches_prefixes=False, num_gpu_blocks=4000)
L40S, H100 = PROFILES["llama-3.1-8b-l40s"], PROFILES["llama-3.1-8b-h100"]
OWN = NodeGroup(name="own", gpu_class="L40S")
SPOT = NodeGroup(name="spot", gpu_class="H100", low=1, high=1)


def setting(*groups: NodeGroup, per_s: float = 4.0, span_s: float = 300.0, **fields: object) -> Setting:
    arrivals = [
        Arrival(at_s=number / per_s, prompt_tokens=300 + 53 * (number % 17), output_tokens=60 + 7 * (number % 11))
        for number in range(int(span_s * per_s) + 1)
    ]
    whole = Setting(
        requests=request_records(arrivals),
        config=CONFIG,
        times=L40S,
        bounds=Bounds(low=1, high=4),
        replicas_at_start=1,
        startup=StartupTimes(cold_s=60.0, warm_s=60.0, log_deviation=0.0),
        nodes=groups,
    )
    return replace(whole, **fields)  # type: ignore[arg-type]  # fields by name


FASTER = (ClassMachine(gpu_class="H100", config=CONFIG, times=H100),)


def test_on_a_class_of_its_own_profile_a_replica_is_one_of_that_profile() -> None:
    on_class = simulate(setting(SPOT, on_class=FASTER), Static(1))
    everywhere = simulate(setting(SPOT, times=H100), Static(1))

    np.testing.assert_array_equal(on_class.requests["finished_at_s"], everywhere.requests["finished_at_s"])
    assert on_class.ttft_p95_s < simulate(setting(SPOT), Static(1)).ttft_p95_s


def test_a_class_of_which_nothing_is_said_is_as_the_machine_is() -> None:
    plain, with_other = simulate(setting(OWN), Static(1)), simulate(setting(OWN, on_class=FASTER), Static(1))

    np.testing.assert_array_equal(plain.requests["finished_at_s"], with_other.requests["finished_at_s"])


def test_on_nodes_of_both_classes_each_replica_has_the_speed_of_its_own() -> None:
    outcome = simulate(setting(OWN, SPOT, replicas_at_start=2, on_class=FASTER), Static(2))

    requests = outcome.requests
    per_token_s = (requests["finished_at_s"] - requests["first_token_at_s"]) / (requests["output_tokens"] - 1)
    slow_s, fast_s = (float(np.median(per_token_s[requests["replica"] == slot])) for slot in (0, 1))
    assert slow_s / fast_s == pytest.approx(L40S.base_s / H100.base_s, rel=0.3)
    assert (requests["replica"] == 1).sum() > (requests["replica"] == 0).sum()  # who is done sooner gets more


class Watching:
    """Two replicas, and how full they say they are."""

    def __init__(self) -> None:
        self.cadence = Cadence(scrape_s=1.0, decide_s=1.0)
        self.used: dict[str, list[float]] = {}

    def wish(self, seen: Observation, now_s: float) -> Wish:
        for pod in seen.pods:
            if pod.signals is not None and pod.signals.kv_cache_usage_ratio:
                self.used.setdefault(pod.node_class, []).append(pod.signals.kv_cache_usage_ratio)
        return Wish(replicas=2)


def test_a_larger_cache_is_less_full_of_the_same() -> None:
    larger = (ClassMachine(gpu_class="H100", config=replace(CONFIG, num_gpu_blocks=40_000), times=L40S),)
    watching = Watching()

    simulate(setting(OWN, SPOT, replicas_at_start=2, on_class=larger), watching)

    assert np.mean(watching.used["L40S"]) / np.mean(watching.used["H100"]) == pytest.approx(10.0, rel=0.3)


def test_services_on_the_same_nodes_are_each_as_fast_as_their_model_is_there() -> None:
    shared = setting(NodeGroup(name="spot", gpu_class="H100", gpus=2, low=1, high=1))

    plain, faster = simulate_together([(shared, Static(1)), (replace(shared, on_class=FASTER), Static(1))]).outcomes

    assert faster.ttft_p95_s < plain.ttft_p95_s / 2


POOLS = """\
nodes: [{name: own, gpuClass: L40S, count: 2}, {name: more, gpuClass: H100, count: 2}]
traffic: {rates: azure_2023_conversation, endSeconds: 150}
machine: {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 8192, CLASSES}
replicas: {max: 3}
pools: {prefill: {PREFILL}, kvBytesPerToken: 131072, bytesPerSecond: 25e9}
"""
CLASSES = "classes: {H100: {profile: llama-3.1-8b-h100, numGpuBlocks: 28000}}"


def pools(prefill: str, classes: str = CLASSES, replicas: int = 1) -> Setting:
    found = parse_scenario(POOLS.replace("CLASSES", classes).replace("PREFILL", prefill), "any", Path())
    assert isinstance(found, Scenario)
    return replace(found.setting(1)[0], replicas_at_start=replicas)


def served(setting: Setting) -> Outcome:
    return simulate(setting, fixed(setting))


def test_prefill_on_one_class_and_decoding_on_another_are_each_as_fast_as_their_own() -> None:
    apart = served(pools("max: 2, gpuClass: H100", f"gpuClass: L40S, {CLASSES}"))
    said = served(pools("max: 2, profile: llama-3.1-8b-h100, numGpuBlocks: 28000", "gpuClass: L40S"))

    np.testing.assert_array_equal(apart.requests["finished_at_s"], said.requests["finished_at_s"])
    assert apart.ttft_p95_s < served(pools("max: 2, gpuClass: L40S", f"gpuClass: H100, {CLASSES}")).ttft_p95_s / 2


def test_a_pool_may_be_of_both_classes() -> None:
    mixed, on_fast = (
        pools("max: 1, gpuClass: L40S", f"{of_decoding} {CLASSES}", replicas=2)
        for of_decoding in ("", "gpuClass: H100,")
    )  # of both, decoding has what prefill leaves of the first two nodes, and one of the others
    on_slow = replace(mixed, nodes=(replace(OWN, low=3, high=3),))

    assert per_token_s(served(on_fast)) < 0.9 * per_token_s(served(mixed))
    assert per_token_s(served(mixed)) < 0.9 * per_token_s(served(on_slow))


def per_token_s(outcome: Outcome) -> float:
    requests = outcome.requests
    return float(np.mean((requests["finished_at_s"] - requests["first_token_at_s"]) / requests["output_tokens"]))


def test_a_pool_that_nobody_scales_is_on_the_class_that_it_names() -> None:
    named = pools("replicas: 2, gpuClass: H100")

    assert named.fixed_pool is not None
    assert (named.fixed_pool.times, named.fixed_pool.config.num_gpu_blocks) == (H100, 28000)
    with pytest.raises(ScenarioError, match=r"pools\.prefill\.gpuClass: machine\.classes says nothing of A10"):
        pools("replicas: 2, gpuClass: A10")
    with pytest.raises(ScenarioError, match="a replica of 1 GPUs does not fit a node of class A10"):
        pools("max: 2, gpuClass: A10")


def test_without_nodes_a_replica_is_on_the_class_that_it_asks_for() -> None:
    nowhere = setting(on_class=FASTER, gpu_class="H100", nodes=())

    outcome = simulate(nowhere, Static(1))

    everywhere = simulate(setting(times=H100, nodes=()), Static(1))
    np.testing.assert_array_equal(outcome.requests["finished_at_s"], everywhere.requests["finished_at_s"])


def test_the_smallest_fixed_fleet_is_sized_on_the_machines_that_its_replicas_are() -> None:
    busy = setting(SPOT, per_s=30.0, span_s=120.0, ttft_s=0.3, on_class=FASTER)
    lost = replace(SPOT, high=6, low=6, losses_at_s=tuple((number, 5.0) for number in range(6)))

    on_slow, on_fast = (
        smallest_static(replace(busy, nodes=(lost,), on_class=on_class)) for on_class in ((), FASTER)
    )  # nothing holds there: it is sized as if the nodes stayed

    assert on_fast < on_slow
    plain = replace(busy, nodes=(), on_class=())
    assert (on_slow, on_fast) == tuple(smallest_static(replace(plain, times=times)) for times in (L40S, H100))


def test_of_two_classes_the_fleet_has_the_first_and_then_the_second() -> None:
    busy = setting(per_s=30.0, span_s=120.0, ttft_s=0.3, on_class=FASTER, bounds=Bounds(low=1, high=8))
    doomed = ((0, 5.0),)
    groups = (replace(OWN, losses_at_s=doomed), replace(SPOT, losses_at_s=doomed))

    mixed = smallest_static(replace(busy, nodes=groups))

    slow, fast = (smallest_static(replace(busy, on_class=(), times=times)) for times in (L40S, H100))
    assert fast <= mixed <= slow
    assert mixed == fast + 1


def test_who_asks_one_replica_what_it_serves_asks_one_where_the_first_one_goes() -> None:
    on_h100 = setting(SPOT, on_class=FASTER)

    first = [policy_of("skyserve", one) for one in (on_h100, replace(on_h100, nodes=(OWN, SPOT)))]

    assert first[0] == policy_of("skyserve", replace(on_h100, on_class=(), times=H100))
    assert first[1] == policy_of("skyserve", replace(on_h100, on_class=()))


def policy_of(name: str, given: Setting) -> float:
    policy = chosen(name, given)
    assert isinstance(policy, SkyServe)
    return policy.target_per_s


FILE = """\
nodes: [{name: own, gpuClass: L40S, count: 1}, {name: more, gpuClass: H100, count: 1}]
traffic: {rates: azure_2023_code, endSeconds: 60}
machine: {profile: llama-3.1-8b-l40s, numGpuBlocks: 12000, maxModelLenTokens: 4096, classes: CLASSES}
replicas: {max: 2}
"""


def scenario(classes: str) -> Scenario:
    found = parse_scenario(FILE.replace("CLASSES", classes), "any", Path())
    assert isinstance(found, Scenario)
    return found


def test_a_file_says_what_a_replica_is_on_a_class() -> None:
    [faster] = scenario("{H100: {profile: llama-3.1-8b-h100, numGpuBlocks: 28000}}").on_class
    [double] = scenario("{H100: {speedRatio: 2}}").setting(1)[0].on_class

    assert (faster.gpu_class, faster.times, faster.config.num_gpu_blocks) == ("H100", H100, 28000)
    assert (double.times.base_s, double.config.num_gpu_blocks) == (L40S.base_s / 2, 12000)


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("{A10: {speedRatio: 2}}", "machine.classes: no nodes are of class A10"),
        ("{H100: {}}", "machine.classes.H100: either a profile or a speedRatio is expected"),
        ("{H100: {profile: fast}}", "machine.classes.H100: no profile 'fast'; there are: llama"),
        ("{H100: {speedRatio: 0}}", "machine.classes.H100.speedRatio: Input should be greater than 0, got '0'"),
    ],
    ids=["no node", "nothing", "profile", "speed"],
)
def test_a_wrong_class_is_told_so(classes: str, said: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        scenario(classes)

    assert said in str(caught.value)
