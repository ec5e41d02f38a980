"""The HPA's rule against decisions of a real kube-controller-manager.

tests/golden/hpa_decisions.json was recorded on Kubernetes 1.36.3 by `make bench NAME=sim-hpa`; to record anew:
`WARMTIDE_RECORD=tests/golden/hpa_decisions.json make bench NAME=sim-hpa` (a real control plane, four minutes).
"""

import json
from pathlib import Path

import pytest

from simulations.imports.recorded import Recording, replayed

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
