"""How long a start-up takes: learned by kind, and expected of the next one by where it would land."""

from dataclasses import replace

import pytest

from autoscaler.policy.examples import fleet, ready, starting
from autoscaler.policy.lead_time import late_after_s, lead_time_of, learn_starts, prior, start_record, typical_lead_time
from autoscaler.policy.spec import PolicySpec
from autoscaler.policy.supply import take_stock
from autoscaler.policy.types import Landing, Tier

NOW_S = 1_000_000.0


def test_a_single_start_keeps_the_spread_of_the_prior() -> None:
    one = start_record(Tier.WARM, "H100", (100.0,)).learned
    many = start_record(Tier.WARM, "H100", tuple(100.0 + index for index in range(32))).learned

    assert (one.p50_s, one.starts) == (100.0, 1)
    assert one.p95_s == pytest.approx(100 * (1 + 0.88 * 4 / 5))
    assert many.p50_s < many.p80_s < many.p95_s < 150.0


def test_start_ups_are_kept_apart_by_tier_and_node_class_and_bounded() -> None:
    pods = tuple(
        replace(ready(f"pod-{index}", None, start_s=10.0 + index), tier=tier)
        for index, tier in enumerate([Tier.COLD, Tier.WARM] * 40)
    )

    records = learn_starts((), tuple(pod.name for pod in pods), pods)

    assert [(record.learned.tier, len(record.durations_s)) for record in records] == [(Tier.COLD, 32), (Tier.WARM, 32)]
    assert typical_lead_time(records, 180.0).tier is Tier.WARM
    assert typical_lead_time((), 180.0) == prior(180.0)


def test_a_kind_of_start_up_that_was_never_seen_is_expected_as_the_prior_says() -> None:
    records = (start_record(Tier.COLD, "A100", (500.0,)), start_record(Tier.WARM, "H100", (20.0,)))
    warm, other = starting("warm", created_at_s=NOW_S), replace(starting("b", created_at_s=NOW_S), tier=Tier.HOT)

    assert lead_time_of(warm, records, 180.0).p50_s == 20.0
    assert lead_time_of(other, records, 180.0) == prior(180.0)


@pytest.mark.parametrize(
    ("landing", "p50_s"),
    [
        pytest.param(None, 20.0, id="unknown: the kind seen last"),
        pytest.param(Landing(tier=Tier.COLD, node_class="A100"), 500.0, id="cold, of its class"),
        pytest.param(Landing(tier=Tier.COLD, node_class="H100"), 400.0, id="cold, of another class: the last cold one"),
        pytest.param(Landing(tier=Tier.WARM), 20.0, id="warm"),
        pytest.param(Landing(tier=Tier.HOT), 20.0, id="never seen: the kind seen last"),
    ],
)
def test_the_next_start_up_is_expected_as_those_where_it_lands(landing: Landing | None, p50_s: float) -> None:
    records = tuple(
        start_record(tier, node_class, (seconds,))
        for tier, node_class, seconds in [
            (Tier.COLD, "A100", 500.0),
            (Tier.COLD, "L40S", 400.0),
            (Tier.WARM, "A100", 20.0),
        ]
    )

    assert typical_lead_time(records, 180.0, landing).p50_s == p50_s


def test_a_cold_start_that_was_never_measured_is_expected_no_faster_than_the_prior() -> None:
    records = (start_record(Tier.WARM, "A100", (20.0,)),)

    assert typical_lead_time(records, 180.0, Landing(tier=Tier.COLD)) == prior(180.0)
    assert typical_lead_time(records, 10.0, Landing(tier=Tier.COLD)).p50_s == 20.0


@pytest.mark.parametrize(
    ("durations_s", "late_s"),
    [
        pytest.param((1.0,), 11.0, id="a second, as the API's whole seconds say: probes add as much as ten"),
        pytest.param((1.0,) * 32, 11.0, id="however often"),
        pytest.param((100.0,), 100 * (1 + 0.88 * 4 / 5), id="minutes: beyond the P95"),
    ],
)
def test_a_replica_is_late_no_sooner_than_the_readiness_probe_may_be(
    durations_s: tuple[float, ...], late_s: float
) -> None:
    lead = start_record(Tier.WARM, "H100", durations_s).learned

    assert late_after_s(lead) == pytest.approx(late_s)


def test_a_start_that_takes_three_seconds_where_one_took_a_second_is_not_ordered_twice() -> None:
    records = (start_record(Tier.WARM, "H100", (1.0,)),)
    slow = starting("slow", created_at_s=NOW_S - 3)

    stock = take_stock(fleet([], replicas=1, pods=(slow,)), PolicySpec(), records, NOW_S, now_s=NOW_S)

    assert (stock.supply.starting, stock.supply.overdue) == (1, 0)
