"""What a plan does, as people read it: a table of actions, each with its reason."""

from collections.abc import Callable, Iterable

from cacheops.commands.output import rows, say, size
from cacheops.stock import Action, Cause, Verb

# What a plan's shorter causes mean; the others come with words of their own.
IN_WORDS = {
    Cause.TOO_YOUNG: "published less than 10 minutes ago",
    Cause.IN_USE: "a pod or process has it mounted",
    Cause.PINNED: "pinned by hand or by its ModelCache",
    Cause.ROOM_ENOUGH: "nobody asks for it, nothing else needs the room",
    Cause.WANTED: "wanted, and here",
    Cause.DISK_PRESSURE: "an unfinished fetch that nobody waits for, and room is short",
    Cause.PARTIAL_EXPIRED: "an unfinished fetch that nobody asked for in a day",
    Cause.STARTS_SOON: "a replica starts soon: into the page cache",
}


def actions(found: Iterable[Action], names: Callable[[str], str]) -> None:
    """What a plan does, in its order, each with its reason. `names` gives a model's name by its key."""
    lines = [
        (
            action.verb.value,
            action.cause.value,
            _growth(action),
            names(action.key or action.digest),
            action.detail or IN_WORDS.get(action.cause, ""),
        )
        for action in found
    ]
    if lines:
        rows(("DO", "WHY", "BYTES", "MODEL", "IN WORDS"), lines)
    else:
        say("nothing here, and nothing to do")


def _growth(action: Action) -> str:
    if not action.grows_bytes or action.verb is Verb.KEEP:
        return "-"
    return f"{'+' if action.grows_bytes > 0 else '-'}{size(abs(action.grows_bytes))}"
