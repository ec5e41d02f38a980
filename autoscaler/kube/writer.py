"""Everything the controller writes, through one gate: only the leader writes, and each write asks again."""

import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

from autoscaler.errors import NamespaceTerminating, NotLeadingError
from autoscaler.kube.resources import Object

# Namespaces that end at the same time; of more it is said again.
FAREWELLS_MAX = 100

log = logging.getLogger(__name__)


class Api(Protocol):
    """The requests that the controller makes besides watching."""

    async def get(self, path: str) -> Object: ...

    async def create(self, path: str, body: Object) -> Object: ...

    async def patch(self, path: str, body: Object) -> Object: ...

    async def delete(self, path: str) -> None: ...


class Writer:
    """An `Api` behind the gate."""

    def __init__(self, api: Api, may_write: Callable[[], bool]) -> None:
        self._api = api
        self.may_write = may_write
        self._farewells: deque[str] = deque(maxlen=FAREWELLS_MAX)

    async def get(self, path: str) -> Object:
        """Reading is free."""
        return await self._api.get(path)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object; NamespaceTerminating is said here, once, and is no trouble to any caller."""
        self._check(path)
        try:
            return await self._api.create(path, body)
        except NamespaceTerminating as exc:
            if exc.message not in self._farewells:
                self._farewells.append(exc.message)
                log.info("%s: nothing is written there any more", exc.message)
            raise

    async def patch(self, path: str, body: Object) -> Object:
        """Merge-patch an object."""
        self._check(path)
        return await self._api.patch(path, body)

    async def delete(self, path: str) -> None:
        """Delete an object."""
        self._check(path)
        await self._api.delete(path)

    def _check(self, path: str) -> None:
        if not self.may_write():
            raise NotLeadingError(f"{path} is not written: another replica leads")
