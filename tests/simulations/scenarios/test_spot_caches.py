"""The shipped scenario in which GPU classes, spot, shared disks, one origin and a quota meet: each does its part."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from simulations import cli
from simulations.imports.choose import chosen
from simulations.scenarios import Together, load_any
from simulations.world import Setting, Shared, simulate_together
from simulations.world.starts.caches import Keeping
from simulations.world.starts.phases import Phases

QUOTA = 10


def settings(replicas: tuple[int, ...] = (4, 4)) -> list[Setting]:
    together = load_any("spot-caches")
    assert isinstance(together, Together)
    return [
        replace(service.setting(1)[0], replicas_at_start=number)
        for service, number in zip(together.services, replicas, strict=True)
    ]


def run(given: list[Setting]) -> Shared:
    return simulate_together([(setting, chosen("hpa-queue", setting)) for setting in given])


@pytest.fixture(scope="module")
def shared() -> Shared:
    return run(settings())


def test_spot_nodes_are_bought_taken_back_and_paid_for(shared: Shared) -> None:
    own, spot = shared.nodes

    assert (own.gpu_class, spot.gpu_class) == ("NVIDIA-L40S", "NVIDIA-H100-80GB")
    assert (own.reclaims, own.losses) == (0, 0)
    assert spot.reclaims > 0
    assert spot.cost == pytest.approx(2.6 * spot.gpu_hours)


def test_the_quota_is_of_both_services_and_is_used_up(shared: Shared) -> None:
    held = ("starting_hot", "starting_warm", "starting_cold", "ready", "draining", "unplaced")

    assert all_of(shared, *held).max() == QUOTA
    assert all_of(shared, "wanted").max() > QUOTA


def all_of(shared: Shared, *columns: str) -> NDArray[np.int64]:
    total: NDArray[np.int64] = np.sum([outcome.series[name] for outcome in shared.outcomes for name in columns], axis=0)
    return total


def test_a_replica_on_spot_is_faster(shared: Shared) -> None:
    requests = shared.outcomes[0].requests
    served = requests[np.isfinite(requests["finished_at_s"]) & (requests["output_tokens"] > 100)]
    per_token_s = (served["finished_at_s"] - served["first_token_at_s"]) / (served["output_tokens"] - 1)
    is_own = served["replica"] < 6  # slots follow the nodes: three of two GPUs are its own

    assert np.median(per_token_s[is_own]) > 2 * np.median(per_token_s[~is_own])


def test_nodes_that_keep_weights_save_the_origin_and_the_users(shared: Shared) -> None:
    without = [
        replace(setting, startup=setting.startup.keeping(Keeping.NONE))
        for setting in settings()
        if isinstance(setting.startup, Phases)
    ]
    bare = run(without)

    kept, fetched_again = (sum(one.startups.fetched_bytes for one in each.outcomes) for each in (shared, bare))
    assert kept < fetched_again / 2
    assert bare.attainment_ratio < shared.attainment_ratio
    assert sum(each.count for each in shared.outcomes[0].startups.by_tier if each.tier == "warm") > 10


def test_each_service_has_its_bound_and_what_it_is_not_for_is_refused_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    codes = [
        cli.main(["oracle", "--scenario", "spot-caches", "--lead-seconds", "60"]),
        cli.main(["replay", "--scenario", "spot-caches"]),
    ]

    said = capsys.readouterr()
    assert codes == [0, 2]
    rows = [line.split()[2:4] for line in said.out.splitlines() if line.startswith("60 s")]
    assert [name for name, _ in rows] == ["chat", "code", "all"]
    assert sum(float(hours) for _, hours in rows[:2]) == pytest.approx(float(rows[2][1]), abs=0.011)
    assert "scenario spot-caches is of several services: run, compare, tune and oracle take it" in said.err
