"""What a watcher has seen, so that a new list becomes the events that were missed."""

from collections.abc import Sequence

from simulations.cluster.api import Object, WatchEvent


class Known:
    """The last version seen of each object of one resource."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}

    def note(self, event: WatchEvent) -> WatchEvent:
        """Remember an event."""
        uid = event.object["metadata"]["uid"]
        if event.type == "DELETED":
            self._objects.pop(uid, None)
        else:
            self._objects[uid] = event.object
        return event

    def replace(self, listed: Sequence[Object]) -> list[WatchEvent]:
        """The events between what was known and a complete new list: gone, new, changed."""
        now = {obj["metadata"]["uid"]: obj for obj in listed}
        events = [WatchEvent("DELETED", obj) for uid, obj in self._objects.items() if uid not in now]
        for uid, obj in now.items():
            before = self._objects.get(uid)
            if before is None:
                events.append(WatchEvent("ADDED", obj))
            elif before["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
                events.append(WatchEvent("MODIFIED", obj))
        self._objects = now
        return events
