"""The secret that agents of one cluster share, from a mounted file: the first line is sent, every line is taken.

Two lines make a rotation: add the new one below, wait until every node has it, move it up, take the old one away.
"""

import hmac
from pathlib import Path

from nodeagent.errors import BadStartError

TOKEN_CHARS_MIN = 16  # below, somebody put a word there
FILE_BYTES_MAX = 4096
_SCHEME = "Bearer "


class TokenFile:
    """Read again whenever the file changed; what was read last counts while it cannot be read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int] | None = None
        self._tokens: tuple[bytes, ...] = ()
        try:
            self._tokens = _tokens(path)
        except (OSError, ValueError) as exc:
            raise BadStartError(f"--peer-token-file {path}: {exc}") from exc

    def header(self) -> str:
        """For a request."""
        return _SCHEME + self._current()[0].decode("ascii")

    def accepts(self, header: str) -> bool:
        """Whether a request's Authorization is one of ours; takes as long for a near miss as for nonsense."""
        given = header.removeprefix(_SCHEME).encode("utf-8", "surrogateescape")
        matches = [hmac.compare_digest(given, token) for token in self._current()]
        return header.startswith(_SCHEME) and any(matches)

    def _current(self) -> tuple[bytes, ...]:
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_ino)
            if mark != self._seen:
                self._tokens, self._seen = _tokens(self._path), mark
        except (OSError, ValueError):  # half written, or swapped this very moment
            return self._tokens
        return self._tokens


def _tokens(path: Path) -> tuple[bytes, ...]:
    with path.open("rb") as file:
        tokens = tuple(line.strip() for line in file.read(FILE_BYTES_MAX).splitlines() if line.strip())
    for token in tokens:
        if len(token) < TOKEN_CHARS_MIN or not token.isascii() or not token.decode("ascii").isprintable():
            raise ValueError(f"a token is at least {TOKEN_CHARS_MIN} printable ASCII characters in one line")
    if not tokens:
        raise ValueError("holds no token")
    return tokens
