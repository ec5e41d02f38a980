"""Whom to ask for a model: nodes that hold it, else the one that fetches it for all, else the origin. Pure.

Who fetches for all needs no lock and no leader: every node sorts the same names by the same hash, each model its own
way, and the first that wants the model and does not fail at it goes to the origin.
"""

import hashlib
import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from nodeagent.report import HEARTBEAT_S, Phase

SILENT_S = 3 * HEARTBEAT_S  # an agent that did not write for so long is not there
# More would share one node's line to the end; so the others find this many holders when it is done, and then more.
FOLLOWERS_MAX = 4
HELD = frozenset({Phase.READY.value, Phase.IDLE.value})


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another node's agent, and how far it is with one model."""

    node: str
    address: str  # IP:PORT
    phase: str = ""  # empty: wanted there, and nothing said yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """In this order."""

    holders: tuple[Peer, ...] = ()
    lead: Peer | None = None  # who fetches it for all; None: nobody but us
    waiting: tuple[Peer, ...] = ()  # who else wants it: one of them may have begun before it could know of us
    may_follow: bool = False  # we are among the few that take files of the lead's while it fetches the others


def peers_of(objects: Iterable[Mapping[str, Any]], digest: str, *, now_s: float) -> list[Peer]:
    """Agents that live, can be asked, and have to do with a model; from NodeModelCache objects."""
    found = []
    for obj in objects:
        status, spec = obj.get("status") or {}, obj.get("spec") or {}
        address = status.get("address") or ""
        if not is_address(address) or now_s - _unix_s(status.get("time")) > SILENT_S:
            continue
        phases = [row.get("phase") or "" for row in status.get("models") or () if row.get("digest") == digest]
        wants = any(row.get("digest") == digest for row in spec.get("models") or ())
        if phases or wants:
            found.append(Peer(node=obj["metadata"]["name"], address=address, phase=phases[0] if phases else ""))
    return found


def choose(peers: Sequence[Peer], me: str, digest: str, *, without: Collection[str] = ()) -> Choice:
    """Whom `me` asks; `without`: nodes that did not keep what they promised."""
    others = [peer for peer in peers if peer.node != me and peer.node not in without]
    # By our own name, too: a hundred nodes that ask do not all ask the same one first.
    holders = sorted((peer for peer in others if peer.phase in HELD), key=lambda peer: _rank(digest, me, peer.node))
    busy = [peer for peer in others if peer.phase == Phase.FETCHING]
    waiting = [peer for peer in others if peer.phase in ("", Phase.PENDING)]
    waiting.sort(key=lambda peer: _rank(digest, peer.node))
    before_us = sum(_rank(digest, peer.node) < _rank(digest, me) for peer in waiting)
    if busy:
        lead = min(busy, key=lambda peer: _rank(digest, peer.node))
        return Choice(holders=tuple(holders), lead=lead, may_follow=before_us < FOLLOWERS_MAX)
    first = waiting[0] if before_us else None  # who is first goes to the origin
    may_follow = before_us - 1 < FOLLOWERS_MAX
    return Choice(holders=tuple(holders), lead=first, waiting=tuple(waiting), may_follow=may_follow)


def is_address(text: str) -> bool:
    """`IP:PORT` and nothing else: the token goes there, so no name server decides where that is."""
    host, colon, port = text.rpartition(":")
    try:
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return bool(colon) and port.isascii() and port.isdigit() and 0 < int(port) < 65536


def _rank(*words: str) -> bytes:
    return hashlib.sha256(" ".join(words).encode()).digest()


def _unix_s(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return float("-inf")
