"""Whom a node asks for a model."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.peers.choice import Peer, choose, is_address, peers_of

DIGEST = "d" * 64
NOW_S = 1_800_000_000.0
TIME = "2027-01-15T08:00:00Z"  # the same
NAMES = st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True), min_size=1, max_size=30, unique=True)


def peer(node: str, phase: str = "") -> Peer:
    return Peer(node=node, address="10.0.0.1:8082", phase=phase)


def cache(phase: str | None = "Ready", *, wanted: str = DIGEST, **status: Any) -> Mapping[str, Any]:
    models = [] if phase is None else [{"digest": DIGEST, "phase": phase}]
    return {
        "metadata": {"name": "n"},
        "spec": {"models": [{"digest": wanted}]},
        "status": {"address": "10.0.0.1:8082", "time": TIME, "models": models} | status,
    }


@settings(max_examples=30)
@given(names=NAMES)
def test_of_all_who_want_it_at_once_one_goes_to_the_origin(names: list[str]) -> None:
    peers = [peer(name, "Pending") for name in names]

    leads = [choose(peers, name, DIGEST).lead for name in names]

    assert leads.count(None) == 1
    assert {lead.node for lead in leads if lead} <= {names[leads.index(None)]}


@settings(max_examples=30)
@given(names=NAMES, lost=st.integers(0, 29))
def test_who_is_lost_is_not_asked_again_and_somebody_goes_in_its_place(names: list[str], lost: int) -> None:
    gone = names[lost % len(names)]
    peers = [peer(name) for name in names]

    leads = [choose(peers, name, DIGEST, without={gone}).lead for name in names if name != gone]

    assert leads.count(None) == min(1, len(leads))
    assert gone not in {lead.node for lead in leads if lead}


def test_models_are_fetched_by_different_nodes() -> None:
    peers = [peer(f"n{number}") for number in range(10)]

    chosen = {one.node for one in peers for model in range(60) if not choose(peers, one.node, f"{model:064x}").lead}

    assert len(chosen) == 10


def test_who_fetches_already_is_waited_for_whoever_comes_first_by_name() -> None:
    for me in ("a", "b", "c", "d"):
        others = [peer("busy", "Fetching"), *(peer(name, "Pending") for name in ("a", "b", "c", "d"))]
        lead = choose(others, me, DIGEST).lead
        assert lead is not None
        assert lead.node == "busy"


def test_who_failed_at_it_is_not_waited_for() -> None:
    assert choose([peer("other", "Failed")], "me", DIGEST).lead is None


def test_those_who_hold_it_are_asked_in_an_order_of_ones_own() -> None:
    peers = [peer(f"n{number}", "Ready") for number in range(10)]

    firsts = {choose(peers, f"m{number}", DIGEST).holders[0].node for number in range(50)}

    assert len(firsts) > 5


@pytest.mark.parametrize(
    ("obj", "phase"),
    [
        pytest.param(cache(), "Ready", id="holds it"),
        pytest.param(cache("Idle", wanted="0" * 64), "Idle", id="holds it unwanted"),
        pytest.param(cache(None), "", id="wants it, says nothing yet"),
        pytest.param(cache(None, wanted="0" * 64), None, id="has nothing to do with it"),
        pytest.param(cache(time="2027-01-15T07:57:01Z"), "Ready", id="silent for just under three minutes"),
        pytest.param(cache(time="2027-01-15T07:56:59Z"), None, id="silent for just over three minutes"),
        pytest.param(cache(time="nonsense"), None, id="no time"),
        pytest.param(cache(address=""), None, id="gives nothing away"),
        pytest.param(cache(address="evil.example:80"), None, id="a name, not an address"),
        pytest.param({"metadata": {"name": "n"}}, None, id="empty"),
    ],
)
def test_who_counts_as_a_peer(obj: Mapping[str, Any], phase: str | None) -> None:
    found = peers_of([obj], DIGEST, now_s=NOW_S)

    assert [one.phase for one in found] == ([] if phase is None else [phase])


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("10.0.0.1:8082", True),
        ("[fd00::1]:8082", True),
        ("10.0.0.1", False),
        ("10.0.0.1:0", False),
        ("10.0.0.1:65536", False),
        ("10.0.0.1:80/x", False),
        ("user@10.0.0.1:80", False),
        ("localhost:80", False),
        ("10.0.0.1:٣", False),
        (":80", False),
    ],
)
def test_an_address_is_an_ip_and_a_port(text: str, is_one: bool) -> None:
    assert is_address(text) is is_one
