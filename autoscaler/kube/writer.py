"""Everything the controller writes, through one gate: only the leader writes, and each write asks again."""

from collections.abc import Callable
from typing import Protocol

from autoscaler.errors import NotLeadingError
from autoscaler.kube.resources import Object


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

    async def get(self, path: str) -> Object:
        """Reading is free."""
        return await self._api.get(path)

    async def create(self, path: str, body: Object) -> Object:
        """Create an object."""
        self._check(path)
        return await self._api.create(path, body)

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
