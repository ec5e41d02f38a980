"""`warmtide`: what a newcomer sees first, and that seeing it loads nothing heavy."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import warmtide

ROOT = Path(__file__).parents[1]
HEAVY = {"kubernetes_asyncio", "aiohttp", "pydantic", "numpy", "opentelemetry", "asyncio", "rich"}
LOADED_BY_HELP = """
import json, sys, warmtide
try:
    warmtide.app()(["--help"])
except SystemExit as done:
    print(json.dumps([done.code, sorted({name.split(".")[0] for name in sys.modules})]))
"""


def test_help_names_every_command_in_one_line_and_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", LOADED_BY_HELP], cwd=ROOT, capture_output=True, text=True, check=True)

    *text, last = done.stdout.splitlines()
    code, loaded = json.loads(last)
    assert code == 0
    assert [line.split()[0] for line in text[text.index("Commands:") + 1 :] if line] == [
        command.name for command in warmtide.COMMANDS
    ]
    assert not any("..." in line for line in text[text.index("Commands:") :])  # Typer's mark of a line that was cut
    assert HEAVY & set(loaded) == set()


def test_a_command_loads_no_typer_on_its_way() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "warmtide", "sim", "--help"]

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)

    loaded = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "simulations" in loaded
    assert {"typer", "pydantic"} & loaded == set()


def test_every_listed_command_exists() -> None:
    missing = [command.module for command in warmtide.COMMANDS if importlib.util.find_spec(command.module) is None]

    assert missing == []


@pytest.mark.parametrize("command", warmtide.COMMANDS, ids=lambda command: command.name)
def test_every_command_explains_its_options(command: warmtide.Command) -> None:
    words = [sys.executable, "-m", "warmtide", command.name, "--help"]

    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert f"warmtide {command.name}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(["--version"], 0, id="version"),
        pytest.param(["--help"], 0, id="help"),
        pytest.param([], 2, id="nothing"),
        pytest.param(["sail"], 2, id="unknown command"),
        pytest.param(["--nonsense"], 2, id="unknown option"),
    ],
)
def test_exit_codes(arguments: list[str], code: int) -> None:
    assert CliRunner().invoke(warmtide.app(), arguments).exit_code == code


def test_a_command_gets_the_rest_of_the_line_and_its_answer_is_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sevenfold.py").write_text("def main(arguments):\n    return len(arguments)\n")
    monkeypatch.syspath_prepend(tmp_path)

    assert warmtide.run(warmtide.Command("x", "sevenfold", ""), ["--help", "-o", "json"]) == 3


@pytest.mark.parametrize(
    "source",
    [
        pytest.param("import not_installed_anywhere\n", id="at once"),
        pytest.param("def main(arguments):\n    import not_installed_anywhere\n", id="by one of its words"),
    ],
)
def test_a_missing_extra_is_named_with_what_to_do(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "needy.py").write_text(source)
    monkeypatch.delitem(sys.modules, "needy", raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    assert warmtide.run(warmtide.Command("x", "needy", ""), []) == 1
    assert "needs not_installed_anywhere, which is not installed: pip install" in capsys.readouterr().err


FROM_SHELL = """
import sys, types, warmtide
command = warmtide.Command("x", "endless", "")
sys.modules["endless"] = types.SimpleNamespace(main=lambda arguments: {body})
warmtide.COMMANDS = (command,)
sys.argv[1:] = ["x"]
warmtide.main()
"""


def test_who_presses_ctrl_c_sees_the_exit_code_of_shells_and_no_traceback() -> None:
    script = FROM_SHELL.format(body="__import__('signal').raise_signal(2)")

    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("lines", [1, 100_000], ids=["left in the buffer", "more than a pipe holds"])
def test_who_stops_reading_ends_a_command_without_complaint(lines: int) -> None:
    script = FROM_SHELL.format(body=f"[print('x') for _ in range({lines})] and 0")
    command = subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert command.stdout is not None
    command.stdout.close()

    _, complaint = command.communicate()

    assert (command.returncode, complaint) == (1, "")


def test_a_full_disk_under_the_output_is_said_in_one_line() -> None:
    script = FROM_SHELL.format(body="print('x') or 0")

    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True)

    assert (done.returncode, done.stderr) == (1, "warmtide x: the output: No space left on device\n")
