"""Names that no source may bring, whichever source it is."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cacheops.errors import InvalidRequestError
from cacheops.guard import DEPTH_MAX, FILES_MAX, MODEL_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, checked_files
from cacheops.model import FileEntry
from simulations.hostile import HOSTILE


def listed(*paths: str, size_bytes: int = 1) -> list[FileEntry]:
    return [FileEntry(path=path, size_bytes=size_bytes) for path in paths]


# Those of `simulations.hostile` come from real sources, too; these no protocol can bring.
UNSAYABLE: dict[str, Sequence[str]] = {
    "lone surrogate": ["a\ud800b"],
    "empty": [""],
    "folder": ["a/"],
    "twice": ["a", "a"],
    "nothing": [],
    "a name just too long": ["x" * (NAME_BYTES_MAX + 1)],
    "just too deep": ["/".join("x" * (DEPTH_MAX + 1))],
}
REFUSED = {**HOSTILE, **UNSAYABLE}


@pytest.mark.parametrize("paths", REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_list_refuses_the_whole_model(paths: Sequence[str]) -> None:
    with pytest.raises(InvalidRequestError, match="file list"):
        checked_files(FileEntry(path=path, size_bytes=1) for path in paths)


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
