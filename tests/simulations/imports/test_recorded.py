"""The HPA's rule against decisions of a real kube-controller-manager.

tests/golden/hpa_decisions.json was recorded on Kubernetes 1.36.3 by `make bench NAME=sim-hpa`; to record anew:
`WARMTIDE_RECORD=tests/golden/hpa_decisions.json make bench NAME=sim-hpa` (a real control plane, four minutes).
"""

import json
from itertools import pairwise
from pathlib import Path
from statistics import mean

import pytest

from simulations.imports.recorded import Recording, replayed
from simulations.policies.hpa import SYNC_JITTER_S

GOLDEN = Path(__file__).parents[2] / "golden" / "hpa_decisions.json"
RECORDINGS: list[Recording] = json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("recording", RECORDINGS, ids=[one["hpa"]["metadata"]["name"] for one in RECORDINGS])  # type: ignore[index]
def test_the_rule_decides_as_the_real_controller_did(recording: Recording) -> None:
    decisions = list(replayed(recording))

    assert len(decisions) > 20
    assert any(decision.real != decision.replicas for decision in decisions)
    assert [decision.rule for decision in decisions] == [decision.real for decision in decisions]


def test_the_recording_has_what_the_bar_asks_for() -> None:
    seen = [sync for recording in RECORDINGS for sync in recording["syncs"]]

    assert len(RECORDINGS) == 20
    assert any(sync["pending"] for sync in seen)
    assert any(None in (sync["per_pod"] or ()) for sync in seen)
    assert any(sync["per_pod"] and sync["total"] for sync in seen)


def test_syncs_are_as_far_apart_as_the_simulator_has_them() -> None:
    """Recorded at a sync period of 6 s; what comes on top does not depend on the period."""
    gaps_s = [
        after["at_s"] - before["at_s"] for recording in RECORDINGS for before, after in pairwise(recording["syncs"])
    ]

    assert mean(gaps_s) - 6.0 == pytest.approx(SYNC_JITTER_S / 2, abs=0.005)
