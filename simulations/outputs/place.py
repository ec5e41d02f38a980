"""Where results go: a folder in which all of a run's files appear at the end, and nothing of anybody else's is lost.

They are written into a folder within it first, and moved up once they are whole: the folder may be one that cannot
be renamed, as a mounted volume or the folder that a shell stands in.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import FolderError

UNFINISHED = ".unfinished-"
KEPT = "another-run-"
REPORT = "report.html"
RESULTS = (REPORT, "comparison.json", "runs.jsonl")  # of a run; folders of policies beside them
META = "meta.json"  # in each folder of a policy, or of a service below it


def check_folder(path: Path, *, may_replace: bool) -> None:
    """FolderError where the results could not go there; said before the work, not after it."""
    _refuse(path, may_replace=may_replace)
    parent = path if path.is_dir() else path.absolute().parent
    if not parent.is_dir():
        raise FolderError(f"{parent} does not exist")
    try:
        os.rmdir(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))  # the only test that knows all file systems
    except OSError as exc:
        raise FolderError(f"{parent} cannot be written: {exc.strerror}") from exc


@contextmanager
def filling(path: Path, *, may_replace: bool) -> Iterator[Path]:
    """A folder to write into; what is in it then is all that is in `path`, or nothing is. FolderError."""
    is_new = not path.exists()
    try:
        path.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=path) as staging:
            yield Path(staging)
            _publish(Path(staging), path, may_replace=may_replace)
    except OSError as exc:
        raise FolderError(f"{path}: the results cannot be written: {exc.strerror}; it is as it was before") from exc
    finally:
        if is_new:
            with suppress(OSError):  # it is not empty, or was never made
                path.rmdir()


def _publish(staging: Path, path: Path, *, may_replace: bool) -> None:
    """One run at a time; who finds the results of another one there puts its own beside them."""
    at = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(at, fcntl.LOCK_EX)
        old = _results(path)
        if old and not may_replace:
            kept = path / staging.name.replace(UNFINISHED, KEPT)
            kept.mkdir()
            _move(staging, kept)
            raise FolderError(f"{path} was filled by another run meanwhile; the results of this one are in {kept}")
        for one in old:
            shutil.rmtree(one) if one.is_dir() else one.unlink()
        _move(staging, path)
    finally:
        os.close(at)


def _move(staging: Path, path: Path) -> None:
    """What a person opens comes last."""
    for one in sorted(staging.iterdir(), key=lambda one: one.name in RESULTS):
        one.rename(path / one.name)


def _refuse(path: Path, *, may_replace: bool) -> None:
    """FolderError where something is in the way."""
    if path.exists() and not path.is_dir():
        raise FolderError(f"{path} is a file, must be a folder that is new or empty")
    if not path.is_dir():
        return
    results = _results(path)
    if results and not may_replace:
        raise FolderError(f"{path} is not empty; --force replaces what a run left there")
    others = [one.name for one in path.iterdir() if one not in results and not one.name.startswith(UNFINISHED)]
    if others:
        raise FolderError(f"{path} holds {min(others)!r}, which no run left: name a folder that is new or empty")


def _results(path: Path) -> Sequence[Path]:
    """What a run before left."""
    found = [one for one in path.iterdir() if not one.name.startswith(UNFINISHED)]
    return [one for one in found if one.name in RESULTS or one.name.startswith(KEPT) or _is_policy(one)]


def _is_policy(folder: Path) -> bool:
    """Of one service, or with a folder for each of several; a whole run, which has a page, is none."""
    is_run = any((folder / name).exists() for name in RESULTS)
    return (folder / META).is_file() or (not is_run and any(folder.glob(f"*/{META}")))
