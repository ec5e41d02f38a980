"""What the house asks of every file, checked by a machine."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE_LINES_MAX = 400  # past that a file has two jobs
FUNCTION_LINES_MAX = 40


def tracked(*patterns: str) -> list[Path]:
    """Files git knows of; outside a checkout there is nothing to hold to the rules."""
    done = subprocess.run(["git", "ls-files", "--", *patterns], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in done.stdout.splitlines() if (ROOT / line).exists()]


def code_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    docstring = ast.get_docstring(node, clean=False)
    return (node.end_lineno or 0) - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)


def test_no_file_is_longer_than_one_can_hold_in_the_head() -> None:
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in tracked("*.py")}

    assert {path: lines for path, lines in lengths.items() if lines > FILE_LINES_MAX} == {}


def test_no_function_does_two_jobs() -> None:
    long = {
        f"{path.relative_to(ROOT)}:{node.name}": code_lines(node)
        for path in tracked("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and code_lines(node) > FUNCTION_LINES_MAX
    }

    assert long == {}


def test_tests_are_never_packages() -> None:
    assert tracked("tests/**/__init__.py") == []  # with one, pytest would import tests/autoscaler as `autoscaler`


def test_constraints_are_exact_pins_without_addresses() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

    assert [pin for pin in pins if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+_-]+", pin)] == []
    assert pins == sorted(pins, key=str.lower)


def test_no_committed_file_names_a_package_registry_or_a_local_path() -> None:
    registries = ("pypi" + ".org", "python" + "hosted.org", "registry.npm" + "js.org", "proxy.go" + "lang.org")
    named = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in tracked()
        if path.suffix not in {".png", ".gz"}
        for word in (*registries, str(ROOT) + "/")
        if word in path.read_text(encoding="utf-8", errors="replace")
    ]

    assert named == []


def test_nothing_is_left_for_later_in_the_code() -> None:
    marks = re.compile(r"\b(TODO|FIX" + r"ME|XXX|HACK)\b|raise NotImplemented" + "Error")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if marks.search(line) and path != Path(__file__)
    ]

    assert found == []
