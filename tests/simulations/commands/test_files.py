"""What a command leaves in a file is whole or not there, and what cannot be written is told before the work."""

from pathlib import Path

import pytest

from simulations import cli
from simulations.commands.files import check_file, write_file
from simulations.errors import UsageError


@pytest.mark.parametrize(
    ("name", "said"),
    [
        pytest.param("folder", "folder is a directory; expected the name of a file", id="a folder"),
        pytest.param("no/such.yaml", "cannot be written: No such file or directory", id="no folder"),
        pytest.param("there/below", "cannot be written: Not a directory", id="below a file"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_left(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "there").write_text("whole")

    with pytest.raises(UsageError, match=said):
        check_file(tmp_path / name)
    if name != "folder":
        with pytest.raises(UsageError, match=said):
            write_file(tmp_path / name, "new")

    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "there"]


@pytest.mark.parametrize("name", ["new", "there", "link"])
def test_what_can_be_is_written_in_its_place(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").write_text("old")
    (tmp_path / "link").symlink_to("there")
    path = tmp_path / name

    check_file(path)
    write_file(path, "new")

    assert path.read_text() == "new"
    assert (tmp_path / "there").read_text() == ("old" if name == "new" else "new")
    assert sorted({path.name for path in tmp_path.iterdir()} - {"new"}) == ["link", "there"]


def test_a_device_is_written_as_it_is() -> None:
    check_file(Path("/dev/null"))
    write_file(Path("/dev/null"), "new")

    with pytest.raises(UsageError, match="/dev/full cannot be written: No space left on device"):
        write_file(Path("/dev/full"), "new")
    assert Path("/dev/full").is_char_device()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param("tune --out {}", id="tune"),
        pytest.param("calibrate bench.json --out {}", id="calibrate"),
        pytest.param("replay --prometheus http://127.0.0.1:9 --csv {}", id="replay"),
        pytest.param("trace plot bench.csv --out {}/a.svg", id="plot"),
        pytest.param("trace convert bench.csv --out {}/a.csv", id="convert"),
    ],
)
def test_a_command_says_so_before_its_work(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing" / "file"

    assert cli.main(words.format(missing).split()) == 2

    told = capsys.readouterr()
    assert "cannot be written: No such file or directory" in told.err
    assert told.out == ""
