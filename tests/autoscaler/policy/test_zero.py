"""Scale to zero and back: on explicit zeros alone, and never into a sleep that nobody could end."""

from dataclasses import replace

import pytest

from autoscaler.policy.examples import IDLE, Load, Service, numbers
from autoscaler.policy.spec import ForecastSpec, LensTargets, PolicySpec, ScalingRules, ZeroSpec
from autoscaler.policy.types import Reason

AWAKE = PolicySpec(
    replicas_max=10,
    targets=LensTargets(use_learned_capacity=False),
    forecast=ForecastSpec(enabled=False),
    scale_down=ScalingRules(tolerance_ratio=0.1, stabilization_window_s=60.0),
)
SLEEPY = replace(AWAKE, zero=ZeroSpec(enabled=True, idle_s=120.0))
AWAY: dict[str, object] = {"upstream_waiting_requests": None, "upstream_problem": "Prometheus is away"}


def test_an_idle_service_goes_to_zero_when_asked_for_and_wakes_at_once() -> None:
    service = Service(policy=SLEEPY, replicas=1, load=Load(upstream_waiting_requests=0.0))
    service.run(20)
    service.sample_changes = dict(IDLE)
    idle_at_s = service.now_s + service.period_s

    gone = next(d for d in service.run(300) if d.replicas == 0)
    service.load = Load(upstream_waiting_requests=1.0)
    [woken] = service.run(2)

    assert gone.decided_at_s == idle_at_s + 120.0
    assert gone.reason is Reason.IDLE_LONG_ENOUGH
    assert (woken.replicas, woken.reason) == (1, Reason.WAKING)


def test_an_idle_service_keeps_one_replica_when_zero_was_not_asked_for() -> None:
    service = Service(policy=replace(AWAKE, replicas_min=0), replicas=2, load=Load(upstream_waiting_requests=0.0))
    service.sample_changes = dict(IDLE)

    decisions = service.run(1200)

    assert numbers(decisions) == [2, 1]
    assert decisions[-1].reason is Reason.KEEPING_ONE


def test_nothing_goes_to_zero_that_nobody_could_wake() -> None:
    service = Service(policy=SLEEPY, replicas=1)
    service.sample_changes = dict(IDLE)

    decisions = service.run(1200)

    assert numbers(decisions) == [1]


@pytest.mark.parametrize("old", [{}, {"upstream_observed_at_s": 0.0}], ids=["never answered", "answered long ago"])
def test_an_idle_service_does_not_go_to_zero_while_its_upstream_is_unknown(old: dict[str, object]) -> None:
    service = Service(policy=SLEEPY, replicas=2, load=Load(upstream_waiting_requests=0.0))
    service.sample_changes = dict(IDLE)
    service.seen_changes = old or AWAY

    assert numbers(service.run(1200)) == [2]
    assert service.decisions[-1].reason is Reason.UPSTREAM_UNKNOWN

    service.seen_changes = {}
    assert numbers(service.run(110)) == [2, 1], "the idle time counts from the first answer"
    assert service.decisions[-1].would_change[0] == "it goes to 0 in 12 s"
    assert numbers(service.run(20)) == [1, 0]


def test_a_service_at_zero_stays_there_while_its_upstream_is_unknown_and_wakes_on_its_word() -> None:
    service = Service(policy=SLEEPY, replicas=0)
    service.seen_changes = dict(AWAY)

    [away] = [service.run(1200)[-1]]
    service.seen_changes = {"upstream_waiting_requests": 0.0}
    [quiet] = service.run(2)
    service.seen_changes = {"upstream_waiting_requests": 30.0}
    [woken] = service.run(2)

    assert (away.replicas, away.reason) == (0, Reason.UPSTREAM_UNKNOWN)
    assert away.steps[0].detail == "Prometheus is away"
    assert away.would_change[0] == (
        "an answer to upstream.query would say whether to wake it; pause.replicas: 1 wakes it by hand"
    )
    assert (quiet.replicas, quiet.reason) == (0, Reason.IDLE)
    assert quiet.would_change[0] == "one request that waits upstream would wake it"
    assert (woken.replicas, woken.steps[0].reason) == (4, Reason.WAKING), "the queue asks for 15; 4 per 15 s may come"


def test_a_service_at_zero_that_nobody_could_wake_comes_back() -> None:
    service = Service(policy=SLEEPY, replicas=0)

    assert numbers(service.run(10)) == [1]


def test_a_prometheus_that_goes_away_while_a_service_wakes_changes_nothing() -> None:
    service = Service(policy=SLEEPY, replicas=0, load=Load(upstream_waiting_requests=2.0))
    service.run(10)
    service.seen_changes = dict(AWAY)

    assert numbers(service.run(600)) == [1]


def test_a_service_that_says_how_many_it_needs_at_least_does_not_go_to_zero() -> None:
    service = Service(policy=SLEEPY, replicas=2, load=Load(upstream_waiting_requests=0.0))
    service.sample_changes = dict(IDLE)
    service.seen_changes = {"native_min": 1}

    assert numbers(service.run(1200)) == [2, 1]
    assert service.decisions[-1].reason is Reason.BELOW_MIN


def test_a_short_silence_within_the_idle_time_starts_it_anew() -> None:
    service = Service(policy=SLEEPY, replicas=1, load=Load(upstream_waiting_requests=0.0))
    service.sample_changes = dict(IDLE)
    service.run(100)
    service.sample_changes = {}
    service.run(2)
    service.sample_changes = dict(IDLE)

    assert numbers(service.run(118)) == [1]
    assert numbers(service.run(10)) == [1, 0]
