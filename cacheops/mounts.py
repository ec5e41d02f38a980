"""Which published trees are mounted right now, from a mount table: what is mounted is in use."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cacheops.model import STORAGE_KEY_HEX

MOUNT_TABLE = Path("/proc/self/mountinfo")  # of this process: what pods mount shows only where it is shared with them
TABLE_BYTES_MAX = 64 << 20  # 100,000 mounts of 600 bytes; nodes have a few thousand
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Leases:
    """Where to see which trees are mounted."""

    table: Path = MOUNT_TABLE
    pods: Path | None = None  # the kubelet's folder, mounted here so that its mounts show; None: not asked for

    def are_seen(self, table: str) -> bool:
        """Whether the table would show a pod's mount."""
        return self.pods is None or shows(table, self.pods)


def mounted_keys(table: str, models: Path) -> Mapping[str, int]:
    """Mounts by tree. A bind mount shows, as its root, the folder within the file system that it shows elsewhere.

    The root is counted from the top of its file system, so only its end can be compared: `…/models/<key>[/…]`
    within the name of the cache's own folder. A namesake on another disk counts too: the safe mistake.
    """
    shape = re.compile(rf"(?:^|/){re.escape(models.name)}/([0-9a-f]{{{STORAGE_KEY_HEX}}})(?:/|$)")
    found: Counter[str] = Counter()
    for root, place in _rows(table.splitlines()):
        match = shape.search(root)
        if match and not Path(place).is_relative_to(models):
            found[match[1]] += 1
    return found


def mounted_names(table: str, folder: Path) -> frozenset[str]:
    """Which folders right below `folder` are mounted somewhere, whatever they were called when they were."""
    shape = re.compile(rf"(?:^|/){re.escape(folder.parent.name)}/{re.escape(folder.name)}/([^/]+)(?:/|$)")
    found = (shape.search(root) for root, _place in _rows(table.splitlines()))
    return frozenset(match[1] for match in found if match)


def shows(table: str, place: Path) -> bool:
    """Whether something is mounted right there: without the kubelet's folder, a table says nothing about pods."""
    return any(Path(found) == place for _root, found in _rows(table.splitlines()))


def read_table(path: Path) -> str:
    """A mount table such as /proc/self/mountinfo."""
    with path.open("rb") as file:
        return file.read(TABLE_BYTES_MAX).decode("utf-8", "replace")


def _rows(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Root and mount point of each mount: fields 4 and 5 of proc(5)."""
    for line in lines:
        fields = line.split(" ")
        if len(fields) > 5:
            yield _plain(fields[3]), _plain(fields[4])


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
