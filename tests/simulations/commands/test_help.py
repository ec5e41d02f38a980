"""What every command says of itself."""

import pytest

from simulations.cli import COMMANDS, main


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])

    assert ended.value.code == 0
    assert f"usage: warmtide sim {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param("sail", "invalid choice: 'sail'", id="no command"),
        pytest.param("-x run", "expected a command first, got -x; see warmtide sim --help", id="command not first"),
        pytest.param("run --polcy x", "run: there is no --polcy x; see warmtide sim run --help", id="no option"),
        pytest.param("run --caches x", "run: argument --caches: invalid choice: 'x'", id="no choice"),
        pytest.param("run --seed -1", "run: argument --seed: '-1' is not a whole number ≥ 0", id="negative seed"),
        pytest.param("compare --jobs 0", "compare: argument --jobs: '0' is not a whole number ≥ 1", id="no jobs"),
        pytest.param("trace inspect", "trace inspect: the following arguments are required: FILE", id="no file"),
    ],
)
def test_what_is_called_wrongly_is_named_in_one_line(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())

    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warmtide sim")
    assert said in line


def test_who_says_nothing_sees_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2

    shown = capsys.readouterr().err
    assert [name for name in COMMANDS if name not in shown] == []
