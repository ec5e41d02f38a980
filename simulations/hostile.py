"""Lists of file names that no source may bring, for tests of every source; ours are refused by `cacheops.guard`."""

from collections.abc import Mapping, Sequence
from typing import overload

MILLION = 1_000_000


class Numbered(Sequence[str]):
    """So many harmless names, none of which is kept in memory."""

    def __init__(self, count: int) -> None:
        self._names = range(count)

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return [f"f{number}.json" for number in self._names[index]]
        return f"f{self._names[index]}.json"


HOSTILE: Mapping[str, Sequence[str]] = {
    "parent": ["../x.json"],
    "parent inside": ["a/../../x.json"],
    "dot": ["./x.json"],
    "absolute": ["/etc/passwd.json"],
    "drive": ["C:x.json"],
    "unc": ["\\\\host\\share.json"],
    "backslash": ["a\\..\\x.json"],
    "nul": ["a\0b.json"],
    "newline": ["a\nb.json"],
    "escape": ["a\x1b[2Jb.json"],
    "bidi override": ["a\u202etxt.json"],
    "empty component": ["a//b.json"],
    "our manifest": ["sub/.Manifest.json"],
    "white space at the edge": ["a /b.json"],
    "5,000 characters": [f"{'x' * 5000}.json"],
    "long name": [f"{'x' * 251}.json"],
    "long path": ["/".join(["x" * 100] * 11) + ".json"],
    "deep": ["/".join("x" * 33) + ".json"],
    "case collision": ["Config.json", "config.json"],
    "folder case collision": ["Sub/a.json", "sub/b.json"],
    "unicode collision": ["\u00e9.json", "e\u0301.json"],
    "file and folder": ["a.json", "a.json/b.json"],
    "folder and file": ["a.json/b.json", "a.json"],
    "a million": Numbered(MILLION),
}
