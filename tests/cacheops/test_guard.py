"""Names that no source may bring, whichever source it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheops.errors import InvalidRequestError
from cacheops.guard import DEPTH_MAX, FILES_MAX, MODEL_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, checked_files
from cacheops.model import FileEntry


def listed(*paths: str, size_bytes: int = 1) -> list[FileEntry]:
    return [FileEntry(path=path, size_bytes=size_bytes) for path in paths]


HOSTILE = {
    "parent": ["../x"],
    "parent inside": ["a/../../x"],
    "dot": ["./x"],
    "absolute": ["/etc/passwd"],
    "drive": ["C:x"],
    "unc": ["\\\\host\\share"],
    "backslash": ["a\\..\\x"],
    "nul": ["a\0b"],
    "newline": ["a\nb"],
    "escape": ["a\x1b[2Jb"],
    "bidi override": ["a\u202etxt.exe"],
    "lone surrogate": ["a\ud800b"],
    "empty": [""],
    "empty component": ["a//b"],
    "folder": ["a/"],
    "our manifest": ["sub/.Manifest.json"],
    "white space at the edge": ["a /b"],
    "5,000 characters": ["x" * 5000],
    "long name": ["x" * (NAME_BYTES_MAX + 1)],
    "long path": ["/".join(["x" * 100] * 11)],
    "deep": ["/".join("x" * (DEPTH_MAX + 1))],
    "case collision": ["Config.json", "config.json"],
    "folder case collision": ["Sub/a", "sub/b"],
    "unicode collision": ["\u00e9", "e\u0301"],
    "twice": ["a", "a"],
    "file and folder": ["a", "a/b"],
    "folder and file": ["a/b", "a"],
    "nothing": [],
}


@pytest.mark.parametrize("paths", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_list_refuses_the_whole_model(paths: list[str]) -> None:
    with pytest.raises(InvalidRequestError, match="file list"):
        checked_files(listed(*paths))


@pytest.mark.parametrize(
    "paths",
    [
        pytest.param(["config.json", "sub/config.json", "model-00001-of-00002.safetensors"], id="ordinary"),
        pytest.param(["x" * NAME_BYTES_MAX], id="longest name"),
        pytest.param(["/".join("x" * DEPTH_MAX)], id="deepest"),
        pytest.param(["/".join(["x" * 127] * 8)], id="longest path"),
        pytest.param(["..a", "a..", ".gitattributes", "模型.json"], id="odd but harmless"),
    ],
)
def test_names_just_within_the_limits_pass(paths: list[str]) -> None:
    assert [entry.path for entry in checked_files(listed(*paths))] == paths
    assert all(len(path.encode()) <= PATH_BYTES_MAX for path in paths)


def test_a_list_without_end_is_refused_without_reading_it_all() -> None:
    asked = []

    def endless() -> object:
        for number in range(1_000_000):
            asked.append(number)
            yield FileEntry(path=f"f{number}", size_bytes=1)

    with pytest.raises(InvalidRequestError, match=f"more than {FILES_MAX} files"):
        checked_files(endless())  # type: ignore[arg-type]
    assert len(asked) == FILES_MAX + 1


def test_a_list_of_as_many_files_as_allowed_passes() -> None:
    assert len(checked_files(listed(*(f"f{number}" for number in range(FILES_MAX))))) == FILES_MAX


def test_a_claimed_size_beyond_any_model_is_refused() -> None:
    checked_files(listed("a", size_bytes=MODEL_BYTES_MAX))

    with pytest.raises(InvalidRequestError, match="exceeds"):
        checked_files(listed("a", "b", size_bytes=MODEL_BYTES_MAX // 2 + 1))


@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_what_passes_stays_below_its_root(paths: list[str]) -> None:
    try:
        passed = checked_files(listed(*paths))
    except InvalidRequestError:
        return

    for entry in passed:
        assert not entry.path.startswith("/")
        assert not {"", ".", ".."} & set(entry.path.split("/"))
        assert "\0" not in entry.path
