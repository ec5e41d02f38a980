"""Which pods are read how often, and which samples are worth a pass."""

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from autoscaler.collect import Collector, scrape_target
from autoscaler.kube.address import MetricsAddress
from autoscaler.kube.views import PodView, pod_view
from autoscaler.policy.spec import LensTargets, PolicySpec
from autoscaler.rhythm import level_of
from autoscaler.settings import MetricsEndpoint, ServicePolicy
from metrics.clock import ManualClock
from metrics.errors import ScrapeError, ScrapeFailure
from metrics.sample import EngineSample

POLICY = ServicePolicy(name="default/gold", spec=PolicySpec())


def pod(name: str = "a", **more: Any) -> PodView:
    conditions = [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]
    document = {"metadata": {"name": name, "uid": name}, "status": {"podIP": "10.0.0.1", "conditions": conditions}}
    return replace(pod_view(document), **more)


def sample(at_s: float, waiting: float = 0.0, **more: Any) -> EngineSample:
    return EngineSample(observed_at_s=at_s, running_requests=0.0, waiting_requests=waiting, **more)


class Watching:
    """A collector, whom it woke, and what it would scrape."""

    def __init__(self, period_min_s: float = 0.0) -> None:
        self.clock = ManualClock(100.0)
        self.woken: list[str] = []
        self.collector = Collector(self.clock, wake=self.woken.append, period_min_s=period_min_s)

    def watch(self, *pods: PodView, policy: ServicePolicy = POLICY) -> None:
        self.collector.watch("default/llm", pods, policy)

    def periods(self) -> dict[str, float]:
        return {uid: timed.period_s for uid, timed in self.collector.targets.items()}


def test_a_service_under_load_is_read_often_and_an_idle_one_seldom() -> None:
    it = Watching()
    it.watch(pod())
    assert it.periods() == {"a": 0.5}  # nothing is known yet

    it.collector.on_result("a", sample(100.0))
    it.watch(pod())
    assert it.periods() == {"a": 15.0}

    it.collector.on_result("a", sample(101.0, waiting=1.0))
    it.watch(pod())
    assert it.periods() == {"a": 0.5}


@pytest.mark.parametrize(
    ("pods", "max_age_s", "period_s"),
    [
        pytest.param(1, 30.0, 0.5, id="one"),
        pytest.param(5, 30.0, 2.0, id="five"),
        pytest.param(10, 30.0, 4.0, id="twice as many, half as often"),
        pytest.param(100, 30.0, 10.0, id="many: still thrice within a sample's life"),
        pytest.param(100, 60.0, 15.0, id="never less often than an idle one"),
        pytest.param(100, 3.0, 1.0, id="samples that live shortly"),
    ],
)
def test_each_service_under_load_is_heard_equally_often_whatever_its_pods(
    pods: int, max_age_s: float, period_s: float
) -> None:
    it, fleet = Watching(), [pod(str(number)) for number in range(pods)]
    policy = ServicePolicy(name="default/gold", spec=PolicySpec(targets=LensTargets(max_age_s=max_age_s)))
    it.watch(*fleet, policy=policy)
    it.collector.on_result("0", sample(100.0, waiting=1.0))
    it.watch(*fleet, policy=policy)

    assert set(it.periods().values()) == {period_s}


def test_a_period_that_the_policy_names_holds_for_any_number_of_pods() -> None:
    it, fleet = Watching(), [pod(str(number)) for number in range(20)]
    endpoint = MetricsEndpoint(period_s=3.0, is_period_fixed=True)
    it.watch(*fleet, policy=ServicePolicy(name="default/gold", spec=PolicySpec(), endpoint=endpoint))

    assert set(it.periods().values()) == {3.0}


def test_a_pod_that_crosses_an_edge_has_the_others_read_at_once_and_twice_per_period_at_most() -> None:
    it = Watching()
    hastened: list[str] = []
    it.collector.hasten = hastened.append
    it.watch(pod("a"), pod("b"), pod("c"))
    it.collector.on_result("a", sample(100.0))
    assert hastened == []  # the first word of an idle pod is no edge

    it.collector.on_result("a", sample(101.0, waiting=5.0))
    assert sorted(hastened) == ["b", "c"]

    it.collector.on_result("a", sample(101.9, waiting=50.0))
    assert len(hastened) == 2

    it.collector.on_result("a", sample(102.1, waiting=500.0))
    assert len(hastened) == 4


def three_that_were_heard() -> tuple[Watching, list[str]]:
    """Pods a, b and c at work, and who is asked to be read sooner from now on."""
    it = Watching()
    hastened: list[str] = []
    it.collector.hasten = hastened.append
    it.watch(pod("a"), pod("b"), pod("c"))
    for name in ("a", "b", "c"):
        it.collector.on_result(name, sample(100.0))
    return it, hastened


def test_an_edge_that_the_others_say_too_is_one_edge() -> None:
    it, hastened = three_that_were_heard()
    it.woken.clear()
    for at_s, name in ((101.0, "a"), (101.1, "b"), (101.1, "c"), (102.1, "a")):
        it.collector.on_result(name, sample(at_s, waiting=5.0))

    assert it.woken == ["default/llm"]
    assert sorted(hastened) == ["b", "c"]


def test_who_is_alone_waits_for_nobody() -> None:
    it = Watching()
    it.watch(pod("a"))
    for at_s in (100.0, 100.1, 100.2):
        it.collector.on_result("a", sample(at_s, waiting=100.0 * at_s - 9990.0))

    assert len(it.woken) == 3


def test_a_new_pod_that_has_requests_may_have_them_from_another() -> None:
    it = Watching()
    hastened: list[str] = []
    it.collector.hasten = hastened.append
    it.watch(pod("a"))
    it.collector.on_result("a", sample(100.0, waiting=5.0))
    it.watch(pod("a"), pod("new"))
    it.collector.on_result("new", sample(103.0, waiting=2.0))

    assert hastened == ["a"]


async def test_a_decision_waits_for_pages_that_were_asked_for_after_the_edge() -> None:
    it = Watching()
    it.watch(pod("a"), pod("b"), pod("c"), pod("d"))
    for name in ("a", "b", "c", "d"):
        it.collector.on_result(name, sample(100.0))
    it.collector.on_result("d", ScrapeError("d", ScrapeFailure.TIMEOUT, "it hangs"))
    it.collector.on_result("a", sample(101.0, waiting=5.0))

    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(it.collector.heard("default/llm"))
        it.collector.on_result("b", sample(100.9))  # was on its way
        it.collector.on_result("c", sample(101.1))
        await asyncio.sleep(0)
        assert not waiting.done()
        it.collector.on_result("b", sample(101.1))


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param(lambda it: it.watch(pod("a")), id="goes"),
        pytest.param(
            lambda it: it.collector.on_result("b", ScrapeError("b", ScrapeFailure.TIMEOUT, "it hangs")), id="fails"
        ),
    ],
)
async def test_a_pod_that_will_not_answer_is_not_waited_for(ending: Callable[[Watching], None]) -> None:
    it = Watching()
    it.watch(pod("a"), pod("b"))
    for name in ("a", "b"):
        it.collector.on_result(name, sample(100.0))
    it.collector.on_result("a", sample(101.0, waiting=5.0))
    ending(it)
    waiting = it.collector.heard("default/llm")

    with pytest.raises(StopIteration):  # at once
        waiting.send(None)


def test_an_edge_too_soon_after_a_round_has_the_others_read_a_little_later() -> None:
    it, hastened = three_that_were_heard()
    it.collector.on_result("a", sample(101.0, waiting=5.0))
    for name in ("b", "c"):
        it.collector.on_result(name, sample(101.1))
    it.woken.clear()
    it.collector.on_result("b", sample(101.5, waiting=5.0))
    assert sorted(hastened) == ["b", "c"]
    assert it.woken == []  # what the others said may be no longer true

    it.collector.on_result("c", sample(102.0))  # no edge itself
    assert sorted(hastened) == ["a", "b", "b", "c"]
    assert it.woken == ["default/llm"]

    it.collector.on_result("c", sample(104.0))
    assert len(hastened) == 4


def test_the_pods_of_a_service_share_a_period_evenly_as_they_come_and_go() -> None:
    it = Watching()
    pods = [pod(f"pod-{number}") for number in range(10)]
    for count in (3, 10, 7, 10):
        it.watch(*pods[-count:])
    phases = sorted(timed.phase for timed in it.collector.targets.values())

    gaps = [after - before for before, after in itertools.pairwise([*phases, phases[0] + 1.0])]
    assert len(gaps) == 10
    assert max(gaps) < 0.15


def test_a_standby_reads_at_the_idle_period() -> None:
    it = Watching()
    it.collector.watch("default/llm", [pod()], POLICY, may_decide=False)
    it.collector.on_result("a", sample(101.0, waiting=1.0))
    it.collector.watch("default/llm", [pod()], POLICY, may_decide=False)

    assert it.periods() == {"a": 15.0}


def test_a_floor_holds_for_every_period() -> None:
    it = Watching(period_min_s=5.0)
    it.watch(pod())

    assert it.periods() == {"a": 5.0}


@pytest.mark.parametrize(
    ("more", "is_read"),
    [
        pytest.param({}, True, id="ready"),
        pytest.param({"ready_at_s": None}, False, id="not ready yet: nobody listens"),
        pytest.param({"ip": None}, False, id="no address"),
        pytest.param({"is_terminating": True}, False, id="on its way out"),
        pytest.param({"is_over": True}, False, id="over"),
    ],
)
def test_only_pods_that_can_answer_are_read(more: dict[str, Any], is_read: bool) -> None:
    it = Watching()
    it.watch(pod(**more))

    assert (list(it.periods()) == ["a"]) is is_read


def test_a_pod_that_was_ready_once_is_read_on_though_its_probe_fails() -> None:
    it = Watching()
    it.watch(pod())
    it.watch(pod(ready_at_s=None))

    assert list(it.periods()) == ["a"]


def test_pods_that_go_take_their_windows_along() -> None:
    it = Watching()
    it.watch(pod("a"), pod("b"))
    it.collector.on_result("a", sample(100.0))
    it.watch(pod("b"))

    assert list(it.periods()) == ["b"]
    assert it.collector.signals("a", 100.0) is None
    it.collector.forget("default/llm")
    assert it.periods() == {}


def test_the_policys_word_on_the_address_comes_first() -> None:
    announced = pod(address=MetricsAddress(8080, "/metrics", "default"), ip="fd00::1")

    assert scrape_target(announced, MetricsEndpoint()).url == "http://[fd00::1]:8080/metrics"
    chosen = MetricsEndpoint(port=9000, path="/m", scheme="https", insecure_skip_verify=True)
    assert scrape_target(announced, chosen).url == "https://[fd00::1]:9000/m"
    assert scrape_target(announced, chosen).insecure


def test_only_samples_that_cross_an_edge_wake_the_service() -> None:
    it = Watching()
    it.watch(pod())
    for at_s, waiting in enumerate((0.0, 0.0, 1.0, 1.0, 2.0, 3.0, 3.0, 1.0, 0.0, 0.0, 3.0)):
        before = len(it.woken)
        it.collector.on_result("a", sample(100.0 + at_s, waiting))
        it.woken += [f"-{at_s}"] if len(it.woken) > before else []

    # the first sample; from idle to busy; above 2 waiting; busy again and above 2 at once
    assert [wake for wake in it.woken if wake.startswith("-")] == ["-0", "-2", "-5", "-10"]


@pytest.mark.parametrize(
    ("quiet", "loud"),
    [
        pytest.param({"kv_cache_usage_ratio": 0.8}, {"kv_cache_usage_ratio": 0.81}, id="KV cache above its target"),
        pytest.param({"kv_cache_usage_ratio": 0.81}, {"kv_cache_usage_ratio": 0.9}, id="and further above"),
        pytest.param({"is_awake": False}, {"is_awake": True}, id="awake again"),
    ],
)
def test_each_lens_has_its_edge(quiet: dict[str, Any], loud: dict[str, Any]) -> None:
    before, after = (level_of(sample(1.0, **values), LensTargets()) for values in (quiet, loud))

    assert any(new > old for new, old in zip(after, before, strict=True))


def test_a_lens_that_is_off_has_no_edge() -> None:
    off = LensTargets(queue_requests=None, kv_cache_usage_ratio=None)

    assert level_of(sample(1.0, 1.0), off) == level_of(sample(1.0, 500.0, kv_cache_usage_ratio=1.0), off)


def test_freshness_counts_who_was_heard_and_how_the_others_failed() -> None:
    it = Watching()
    failures: list[str] = []
    it.collector.on_failure = failures.append
    it.watch(pod("a"), pod("b"), pod("c"))
    it.collector.on_result("a", sample(95.0))
    it.collector.on_result("b", sample(10.0))
    it.collector.on_result("b", ScrapeError("b", ScrapeFailure.TIMEOUT, "slow"))

    seen = it.collector.freshness("default/llm", 30.0, 100.0)

    assert (seen.pods_scraped, seen.pods_blind, seen.oldest_sample_age_s) == (1, 2, 5.0)
    assert seen.scrape_failures == {"Timeout": 1}
    assert failures == ["Timeout"]


def test_results_of_pods_that_are_gone_are_ignored() -> None:
    it = Watching()
    it.collector.on_result("nobody", sample(1.0))

    assert it.woken == []
