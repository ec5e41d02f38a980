"""Lists and watches: versions, pages, bookmarks, selectors."""

import asyncio
import base64
import binascii
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from simulations.cluster.apiserver.errors import bad_request, expired, too_large_version
from simulations.cluster.apiserver.selectors import Matcher
from simulations.cluster.apiserver.store import Change, CollectionId, Entry, EventLog, Store, Stored

_STALE_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What to list. `namespace` None means all."""

    namespace: str | None = None
    matcher: Matcher | None = None
    version: str = ""
    version_match: str = ""
    limit: int = 0
    page: str = ""  # the continue token


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A consistent list, or a part of one."""

    items: list[Stored]
    version: int
    next_page: str = ""
    remaining: int | None = None


def parse_version(text: str) -> int:
    """A resourceVersion as a number; 0 where none is given."""
    if not text:
        return 0
    if not text.isdigit():
        raise bad_request(f"Invalid value: {text!r}: resourceVersion must be a number")
    return int(text)


def _token(version: int, after: tuple[str, str]) -> str:
    return base64.urlsafe_b64encode(json.dumps({"v": version, "after": after}).encode()).decode()


def _parse_token(token: str) -> tuple[int, tuple[str, str]]:
    try:
        raw = json.loads(base64.urlsafe_b64decode(token.encode()))
        return int(raw["v"]), (str(raw["after"][0]), str(raw["after"][1]))
    except (binascii.Error, ValueError, KeyError, TypeError, IndexError) as exc:
        raise bad_request(f"continue key is not valid: {exc}") from exc


def list_page(store: Store, collection_id: CollectionId, query: ListQuery) -> Page:
    """One page, consistent with the version of the first."""
    if query.version_match and query.version_match not in ("Exact", "NotOlderThan"):
        raise bad_request(f"resourceVersionMatch: Unsupported value: {query.version_match!r}")
    collection = store.collection(collection_id)
    version, after = _parse_token(query.page) if query.page else (parse_version(query.version), None)
    if version > store.version:
        raise too_large_version(version, store.version)
    is_exact = bool(version) and (query.version_match == "Exact" or (query.limit > 0 and not query.version_match))
    if after is not None or is_exact:
        if version < collection.log.floor:
            raise expired(_STALE_PAGE if after else f"The resourceVersion for the provided list is too old: {version}")
        items = collection.all_at(query.namespace, version)
    else:
        items, version = collection.all(query.namespace), store.version
    if after is not None:
        items = [item for item in items if (item.namespace, item.name) > after]
    if query.matcher is not None:
        items = [item for item in items if query.matcher(item.object)]
    return _cut(items, version, query)


def _cut(items: list[Stored], version: int, query: ListQuery) -> Page:
    if not query.limit or len(items) <= query.limit:
        return Page(items=items, version=version)
    last = items[query.limit - 1]
    remaining = (
        len(items) - query.limit if query.matcher is None else None
    )  # as the real server: unknown with selectors
    token = _token(version, (last.namespace, last.name))
    return Page(items=items[: query.limit], version=version, next_page=token, remaining=remaining)


@dataclass(frozen=True, slots=True)
class Seen:
    """One event as one watcher sees it. `stored` is what was before when the object left the selection."""

    change: Change
    stored: Stored
    version: int


@dataclass(slots=True)
class Feed:
    """A place in one event log, seen through a namespace and selectors."""

    log: EventLog
    position: int
    namespace: str | None = None
    matcher: Matcher | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> list[Seen]:
        """What happened since the last time; raises 410 where the log has moved past."""
        entries = self.log.read(self.position)
        self.position += len(entries)
        seen = (self._seen(entry) for entry in entries)
        return [event for event in seen if event is not None]

    def _seen(self, entry: Entry) -> Seen | None:
        if self.namespace is not None and entry.stored.namespace != self.namespace:
            return None
        if self.matcher is None:
            return Seen(entry.change, entry.stored, entry.version)
        is_in = entry.change != "DELETED" and self.matcher(entry.stored.object)
        was_in = entry.previous is not None and self.matcher(entry.previous.object)
        if is_in:
            return Seen("MODIFIED" if was_in else "ADDED", entry.stored, entry.version)
        if not was_in or entry.previous is None:
            return None
        if entry.change == "DELETED":
            return Seen("DELETED", entry.stored, entry.version)
        return Seen("DELETED", _restamped(entry.previous, entry.version), entry.version)

    async def follow(self) -> AsyncIterator[list[Seen]]:
        """Batches of events, for ever."""
        self.log.listeners.add(self.wake)
        try:
            while True:
                self.wake.clear()
                if batch := self.take():
                    yield batch
                else:
                    await self.wake.wait()
        finally:
            self.log.listeners.discard(self.wake)


def _restamped(stored: Stored, version: int) -> Stored:
    metadata = stored.object["metadata"] | {"resourceVersion": str(version)}
    return Stored(stored.collection, stored.object | {"metadata": metadata}, version)
