"""`warmtide cache` on a folder: what people type, what they read, what is left on the disk."""

import fcntl
import json
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheops.cli import COMMANDS, main, parse
from cacheops.layout import Layout, open_cache
from cacheops.model import storage_key
from cacheops.sources import SourceSettings
from metrics.clock import WallClock
from nodeagent.store import Leases, Store
from simulations.origin import Fault, Origin

MIB = 1 << 20
SOUND = 0
Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(layout: Layout, origin: Origin, capsys: pytest.CaptureFixture[str]) -> Say:
    """Call a command on the cache; its exit code and what it printed."""

    def call(command: str, *words: str) -> tuple[int, str]:
        code = main([command, str(layout.root), *words])
        told = capsys.readouterr()
        return code, told.out + told.err

    return call


@pytest.fixture
def uris(origin: Origin) -> list[str]:
    """Two models, the second one larger."""
    for name, size in (("small", MIB), ("large", 3 * MIB)):
        origin.add(f"/{name}/model.safetensors", os.urandom(size))
        origin.add(f"/{name}/config.json", b"{}")
        origin.sums(f"/{name}/")
    return [f"{origin.url}/small/", f"{origin.url}/large/"]


@pytest.fixture
def held(uris: list[str], say: Say) -> list[str]:
    """Both models, published; their keys."""
    for uri in uris:
        assert say("prefetch", uri, "--allow-host", "127.0.0.1")[0] == SOUND
    return [storage_key(uri) for uri in uris]


def names(layout: Layout) -> set[str]:
    return {path.name for path in layout.models.iterdir()}


def test_a_dry_prefetch_says_every_file_and_why_and_fetches_none(say: Say, uris: list[str], layout: Layout) -> None:
    code, told = say("prefetch", uris[0], "--allow-host", "127.0.0.1", "--dry-run")

    assert code == SOUND
    assert "model.safetensors" in told
    assert "Fetch  Wanted  +1.00 MiB" in told
    assert names(layout) == set()


def test_what_is_here_is_listed_with_what_protects_it(say: Say, held: list[str]) -> None:
    say("pin", held[0])

    code, told = say("ls")

    assert code == SOUND
    rows = {line.split()[0]: line for line in told.splitlines()[1:]}
    assert "Published, pinned" in rows[held[0]]
    assert "pinned" not in rows[held[1]]


def test_a_pinned_model_stays_until_it_is_unpinned(say: Say, held: list[str], layout: Layout) -> None:
    say("pin", held[0])

    refused = say("evict", held[0], held[1])
    say("unpin", held[0])
    code, _told = say("evict", held[0])

    assert refused[0] == 1
    assert "Keep   Pinned" in refused[1]
    assert code == SOUND
    assert names(layout) == set()


def test_the_node_agent_keeps_what_was_pinned_by_hand(say: Say, held: list[str], layout: Layout) -> None:
    say("pin", held[0])

    trees = Store(layout, SourceSettings(), WallClock(), Leases()).look().inventory.trees

    assert {tree.key: tree.is_pinned for tree in trees} == {held[0]: True, held[1]: False}


def test_a_model_may_be_pinned_before_it_is_here(say: Say, uris: list[str]) -> None:
    assert say("pin", uris[0]) == (SOUND, f"{storage_key(uris[0])} {uris[0]}: pinned: no plan evicts it\n")

    assert "pinned already" in say("pin", uris[0])[1]


def test_a_dry_run_changes_nothing(say: Say, held: list[str], layout: Layout) -> None:
    for words in (("evict", held[0]), ("evict", "--free-gib", "0.0001"), ("pin", held[0]), ("verify",)):
        code, told = say(*words, "--dry-run")
        assert code == SOUND, told

    assert names(layout) == set(held)
    assert "pinned" not in say("ls")[1]


def test_room_is_made_from_what_is_worth_least_and_no_more(say: Say, held: list[str], layout: Layout) -> None:
    code, told = say("evict", "--free-gib", str(MIB / 2**30))

    assert code == SOUND
    assert len(names(layout)) == 1, told


def test_more_room_than_there_is_fails_and_says_what_was_freed(say: Say, held: list[str]) -> None:
    say("pin", held[1])

    code, told = say("evict", "--free-gib", "1")

    assert code == 1
    assert "freed 1.00 MiB" in told


def test_an_unfinished_fetch_goes_by_its_digest_unless_a_process_works_on_it(
    say: Say, uris: list[str], origin: Origin, layout: Layout
) -> None:
    origin.faults["/large/model.safetensors"] = [Fault(status=403)]
    assert say("prefetch", uris[1], "--allow-host", "127.0.0.1")[0] == 1
    (staged,) = (layout.own / "staging").iterdir()
    with (staged / "lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        refused = say("evict", staged.name[:16])

    gone = say("evict", staged.name[:16])

    assert refused[0] == 1
    assert "a process fetches it" in refused[1]
    assert gone[0] == SOUND
    assert not staged.exists()


def test_a_failure_is_listed_with_its_next_try(say: Say, uris: list[str], origin: Origin) -> None:
    origin.faults["/large/model.safetensors"] = [Fault(status=403)]

    code, told = say("prefetch", uris[1], "--allow-host", "127.0.0.1")

    assert code == 1
    assert told.splitlines()[-1].startswith("warmtide cache: AccessDenied: http://")
    assert "AccessDenied" in say("ls")[1]
    assert "again in 3" in say("ls")[1]


def test_a_plan_names_what_is_wanted_and_what_is_here(say: Say, held: list[str], origin: Origin) -> None:
    origin.add("/new/config.json", b"{}")
    origin.sums("/new/")

    code, told = say("plan", f"{origin.url}/new/", "--allow-host", "127.0.0.1", "--quota-gib", "0.1", "--high", "1")

    assert code == SOUND
    assert [line.split()[:2] for line in told.splitlines()[1:4]] == [
        ["Fetch", "Wanted"],
        ["Keep", "TooYoung"],
        ["Keep", "TooYoung"],
    ]
    assert "may hold 102.40 MiB" in told


def test_damage_is_found_named_and_mended(say: Say, held: list[str], uris: list[str], layout: Layout) -> None:
    file = layout.tree(held[0]) / "model.safetensors"
    file.chmod(0o644)
    with file.open("r+b") as opened:
        opened.write(b"x")
    damaged = say("verify")

    file.parent.chmod(0o755)
    file.unlink()  # as its owner would, and asks for it again
    say("prefetch", uris[0], "--allow-host", "127.0.0.1")

    assert damaged[0] == 1
    assert "'model.safetensors': sha256 is" in damaged[1]
    assert say("verify")[0] == SOUND


def test_a_folder_whose_mount_table_shows_a_reader_keeps_the_model(
    say: Say, held: list[str], layout: Layout, tmp_path: Path
) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"36 35 98:0 {layout.tree(held[0])} /var/lib/kubelet/pods/u/x ro - ext4 /dev/x ro\n")

    code, told = say("evict", held[0], "--mount-table", str(table))

    assert code == 1
    assert "Keep  InUse" in told
    assert "Published, mounted" in say("ls", "--mount-table", str(table))[1]


WRONG = {
    "no folder": (["ls"], "name the cache's folder"),
    "a word too many": (["du", "x", "y"], "takes no 'y'"),
    "no model": (["pin", "DIR"], "no model is named"),
    "nothing to evict": (["evict", "DIR"], "name models, or how much to free"),
    "both": (["evict", "DIR", "abcd", "--free-gib", "1"], "and not both"),
    "an unknown key": (["evict", "DIR", "abcd"], "model abcd: no model with this key"),
    "neither key nor URI": (["evict", "DIR", "../x"], "model '../x': neither a URI nor a key"),
    "two URIs": (["prefetch", "DIR", "hf://a/b", "hf://a/c"], "takes one URI, got 2"),
    "a scheme nobody knows": (["prefetch", "DIR", "ftp://a/b"], "source 'ftp://a/b'"),
    "a network that is none": (["prefetch", "DIR", "hf://a/b", "--allow-host", "a/b"], "--allow-host"),
    "marks that cross": (["plan", "DIR", "--high", "0.5", "--low", "0.6"], "watermarks 0.6 and 0.5"),
    "a change of one node": (["pin", "--node", "n1", "x"], "pin --node n1: the controller places models"),
    "a cluster without a client": (["ls", "--cluster"], "--cluster"),
}


@pytest.mark.parametrize(("words", "said"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_call_is_one_line_that_names_the_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    open_cache(tmp_path / "cache")

    code = main([str(tmp_path / "cache") if word == "DIR" else word for word in words])

    told = capsys.readouterr().err
    assert code == 2
    assert said in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_explains_itself(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([command.name, "--help"])  # type: ignore[attr-defined]

    assert done.value.code == 0
    assert "--cluster" in capsys.readouterr().out


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("line", re.findall(r"^warmtide cache (.*)$", README, flags=re.M))
def test_what_the_readme_shows_is_understood(line: str) -> None:
    options = parse(shlex.split(line))

    on_cluster = options.cluster or options.node
    assert len(options.words) >= (options.command.name in {"prefetch", "evict"} if on_cluster else 1)


def test_failures_on_disk_are_plain_values(say: Say, uris: list[str], origin: Origin, layout: Layout) -> None:
    origin.faults["/small/model.safetensors"] = [Fault(status=429, headers={"Retry-After": "600"})]
    say("prefetch", uris[0], "--allow-host", "127.0.0.1")

    (found,) = (layout.own / "failures").glob("*.json")

    body = json.loads(found.read_text())
    assert (body["reason"], body["attempts"]) == ("SourceUnavailable", 1)
    assert body["retry_at_s"] - body["failed_at_s"] == 600
