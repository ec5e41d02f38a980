"""`warmtide cache` as a newcomer meets it: empty and wrong folders, words forgotten, and looks that leave no trace."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cacheops.cli import main
from cacheops.layout import Layout, open_cache

Say = Callable[..., tuple[int, str]]
LOOKS = ["ls", "plan", "verify", "du"]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Call a command; its exit code and what it printed."""

    def call(*words: str | Path) -> tuple[int, str]:
        code = main([str(word) for word in words])
        told = capsys.readouterr()
        return code, told.out + told.err

    return call


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder as a model of 1 MiB; its URI."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(os.urandom(1 << 20))
    return f"file://{folder}"


@pytest.mark.parametrize("command", LOOKS)
def test_a_look_at_an_empty_folder_says_so_and_leaves_it_empty(say: Say, tmp_path: Path, command: str) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()

    code, told = say(command, folder)

    assert (code, list(folder.iterdir())) == (0, [])
    assert told


@pytest.mark.parametrize("command", [*LOOKS, "unpin", "evict"])
def test_a_folder_that_is_not_there_is_not_made(say: Say, tmp_path: Path, command: str) -> None:
    words = ["hf://org/name"] if command in {"unpin", "evict"} else []

    code, told = say(command, tmp_path / "typo", *words)

    assert code == 2
    assert "typo: there is no such folder" in told
    assert not (tmp_path / "typo").exists()


@pytest.mark.parametrize("command", LOOKS)
def test_a_file_is_no_cache(say: Say, tmp_path: Path, command: str) -> None:
    (tmp_path / "file").touch()

    assert say(command, tmp_path / "file") == (
        2,
        f"warmtide cache: InvalidRequest: cache {tmp_path / 'file'}: not a folder\n",
    )


def test_a_dry_run_may_come_before_the_folder(say: Say, tmp_path: Path, model: str) -> None:
    dry_prefetch, dry_pin = (say(command, tmp_path / "new", model, "--dry-run") for command in ("prefetch", "pin"))

    assert (dry_prefetch[0], dry_pin[0]) == (0, 0)
    assert f"would be published at {tmp_path / 'new' / 'models'}" in dry_prefetch[1]
    assert not (tmp_path / "new").exists()


def test_a_dry_run_that_fails_is_not_remembered(say: Say, layout: Layout) -> None:
    assert say("prefetch", layout.root, "file:///not/here", "--dry-run")[0] == 2

    assert "/not/here" not in say("ls", layout.root)[1]


def test_the_failure_of_a_mistyped_uri_goes_when_it_is_evicted(say: Say, layout: Layout) -> None:
    say("prefetch", layout.root, "file:///not/here")

    dry, done = (
        say("evict", layout.root, "file:///not/here", "--dry-run"),
        say("evict", layout.root, "file:///not/here"),
    )

    assert "its failure would be forgotten" in dry[1]
    assert (done[0], "its failure is forgotten" in done[1]) == (0, True)
    assert "/not/here" not in say("ls", layout.root)[1]


def test_where_only_a_pinned_model_is_eviction_names_it_and_who_keeps_it(say: Say, layout: Layout, model: str) -> None:
    say("prefetch", layout.root, model)
    say("pin", layout.root, model)

    code, told = say("evict", layout.root, "--free-gib", "1", "--dry-run")

    assert code == 1
    assert told.splitlines()[1].startswith("Keep  Pinned")
    assert "pinned by `warmtide cache pin`: unpin it first" in told
    assert "would free 0.0 KiB of 1.00 GiB" in told


def test_a_fetch_of_what_is_here_does_not_claim_to_have_verified_it(say: Say, layout: Layout, model: str) -> None:
    first, again = say("prefetch", layout.root, model)[1], say("prefetch", layout.root, model)[1]

    assert first.endswith("fetched 1.00 MiB, verified\n")
    assert "here already" in again
    assert "verified" not in again


def test_a_folder_with_other_things_in_it_is_claimed_by_a_word_not_by_chance(
    say: Say, tmp_path: Path, model: str
) -> None:
    (tmp_path / "mixed").mkdir()
    (tmp_path / "mixed" / "mine.txt").touch()
    say("prefetch", tmp_path / "mixed", model)

    dry, refused = (say("evict", tmp_path / "mixed", model, *words) for words in (("--dry-run",), ()))
    gone = say("evict", tmp_path / "mixed", model, "--claim")

    assert dry == refused
    assert (dry[0], "nothing is deleted here before --claim" in dry[1]) == (1, True)
    assert (gone[0], list((tmp_path / "mixed" / "models").iterdir())) == (0, [])
    assert (tmp_path / "mixed" / "mine.txt").exists()


FORGOTTEN = {
    "the folder": (["prefetch", "hf://org/name"], "hf://org/name is a URI; the cache's folder comes before it"),
    "the model": (["prefetch", "DIR"], "name the model too"),
    "everything": (["prefetch"], "name the cache's folder"),
}


@pytest.mark.parametrize(("words", "said"), FORGOTTEN.values(), ids=FORGOTTEN.keys())
def test_a_word_that_was_forgotten_is_named(say: Say, tmp_path: Path, words: list[str], said: str) -> None:
    open_cache(tmp_path / "cache")

    code, told = say(*(tmp_path / "cache" if word == "DIR" else word for word in words))

    assert (code, said in told, told.count("\n")) == (2, True, 1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param([], "bring a model: resumed", id="nothing"),
        pytest.param(["verify", "d", "--mib-per-s", "fast"], "'fast' is not a number from 0 on", id="no number"),
        pytest.param(["prefetch", "d", "u", "--workers", "65"], "'65' is not a number from 1 to 64", id="too many"),
    ],
)
def test_what_cannot_be_understood_is_explained(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as done:
        main(words)

    assert done.value.code == 2
    assert said in capsys.readouterr().err
