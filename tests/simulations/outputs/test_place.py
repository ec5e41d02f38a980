"""Where results go: whole or not at all, and nothing of anybody else's is lost."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from simulations.outputs import FolderError, check_folder, filling
from simulations.outputs.place import KEPT, META, REPORT


def nothing() -> None:
    """Meanwhile."""


def fill(path: Path, word: str, *, may_replace: bool = False, meanwhile: Callable[[], None] = nothing) -> None:
    """What a run leaves: a page, and a folder for a policy."""
    with filling(path, may_replace=may_replace) as folder:
        (folder / word).mkdir()
        (folder / word / META).write_text("{}")
        (folder / REPORT).write_text(word)
        meanwhile()


def names(path: Path) -> list[str]:
    return sorted(one.name for one in path.iterdir())


def test_a_new_folder_is_made_and_an_empty_one_filled(tmp_path: Path) -> None:
    fill(tmp_path / "new", "kpa")
    (tmp_path / "empty").mkdir()
    fill(tmp_path / "empty", "kpa")

    assert names(tmp_path / "new") == names(tmp_path / "empty") == ["kpa", REPORT]
    assert (tmp_path / "new" / REPORT).stat().st_mode == (tmp_path / "new" / "kpa" / META).stat().st_mode


def test_a_run_is_replaced_with_force_alone_and_leaves_nothing_of_itself(tmp_path: Path) -> None:
    fill(tmp_path / "out", "kpa")

    with pytest.raises(FolderError, match="is not empty; --force replaces"):
        check_folder(tmp_path / "out", may_replace=False)
    check_folder(tmp_path / "out", may_replace=True)
    fill(tmp_path / "out", "warmtide", may_replace=True)

    assert names(tmp_path / "out") == [REPORT, "warmtide"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(lambda out: (out / "notes.md").touch(), id="a file"),
        pytest.param(lambda out: (out / "thesis").mkdir(), id="a folder"),
        pytest.param(lambda out: fill(out / "monday", "kpa"), id="a run in a folder of its own"),
    ],
)
@pytest.mark.parametrize("may_replace", [False, True], ids=["plain", "force"])
def test_what_no_run_left_there_is_never_replaced(
    tmp_path: Path, place: Callable[[Path], None], may_replace: bool
) -> None:
    place(tmp_path)
    before = names(tmp_path)

    with pytest.raises(FolderError, match=f"holds '{before[0]}', which no run left"):
        check_folder(tmp_path, may_replace=may_replace)

    assert names(tmp_path) == before


@pytest.mark.parametrize(
    ("out", "said"),
    [
        pytest.param("mine", "mine is a file", id="a file"),
        pytest.param("no/such", "no does not exist", id="no parent"),
        pytest.param("mine/out", "mine does not exist", id="a file as parent"),
    ],
)
def test_what_cannot_be_a_folder_is_refused_before_the_work(tmp_path: Path, out: str, said: str) -> None:
    (tmp_path / "mine").write_text("dear to me")

    with pytest.raises(FolderError, match=said):
        check_folder(tmp_path / out, may_replace=True)


def test_a_place_where_nothing_can_be_made_is_refused_before_the_work() -> None:
    with pytest.raises(FolderError, match="/proc cannot be written"):
        check_folder(Path("/proc/out"), may_replace=False)


def test_the_folder_a_shell_stands_in_stays_the_same_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino

    check_folder(Path(), may_replace=False)
    fill(Path(), "kpa")
    fill(Path(), "warmtide", may_replace=True)

    assert names(Path()) == [REPORT, "warmtide"]
    assert tmp_path.stat().st_ino == before


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        pytest.param(KeyboardInterrupt("by hand"), "by hand", id="interrupted"),
        pytest.param(
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "No space left on device; it is as it was before",
            id="disk full",
        ),
    ],
)
@pytest.mark.parametrize("out", ["old", "new"])
def test_who_cannot_finish_leaves_all_as_it_was(tmp_path: Path, out: str, ending: BaseException, said: str) -> None:
    fill(tmp_path / "old", "kpa")

    def end() -> None:
        raise ending

    with pytest.raises((KeyboardInterrupt, FolderError), match=said):
        fill(tmp_path / out, "warmtide", may_replace=True, meanwhile=end)

    assert names(tmp_path) == ["old"]
    assert names(tmp_path / "old") == ["kpa", REPORT]


def test_of_two_runs_into_one_folder_both_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "out"

    with pytest.raises(FolderError, match="was filled by another run meanwhile") as told:
        fill(out, "second", meanwhile=lambda: fill(out, "first"))

    (kept,) = (path for path in out.iterdir() if path.name.startswith(KEPT))
    assert str(kept) in str(told.value)
    assert (kept / REPORT).read_text() == "second"
    assert (out / REPORT).read_text() == "first"
    fill(out, "third", may_replace=True)
    assert names(out) == [REPORT, "third"]
