"""Files that a command leaves: what cannot be written is told before the work, and what was there stays whole."""

import tempfile
from pathlib import Path

from simulations.errors import UsageError


def check_file(path: Path | None) -> None:
    """UsageError where no file can be written; None asks for none."""
    if path is None or _is_device(path):
        return
    if path.is_dir():
        raise UsageError(f"{path} is a directory; expected the name of a file to write")
    try:
        tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.resolve().parent).cleanup()
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror}") from exc


def write_file(path: Path, text: str) -> None:
    """All of it or nothing; UsageError."""
    whole = path.resolve()
    try:
        if _is_device(path):
            path.write_text(text, encoding="utf-8")
            return
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=whole.parent) as staging:
            written = Path(staging) / whole.name
            written.write_text(text, encoding="utf-8")
            written.replace(whole)
    except OSError as exc:
        raise UsageError(f"{path} cannot be written: {exc.strerror}") from exc


def _is_device(path: Path) -> bool:
    """Or a pipe, as /dev/stdout may be."""
    return path.exists() and not path.is_file() and not path.is_dir()
