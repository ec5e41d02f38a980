"""The Kubernetes API as raw JSON: the only home of kubernetes_asyncio, used for credentials, TLS and transport.

No typed models: 5,000 pods as kubernetes_asyncio's classes would cost more than the whole controller.
"""

import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
from kubernetes_asyncio.client import ApiClient, Configuration
from kubernetes_asyncio.config import ConfigException, load_incluster_config, load_kube_config
from yaml import YAMLError

from autoscaler.errors import ApiFailure, BadSpecError, Unauthorized, Unreachable, api_failure
from autoscaler.kube.budget import RequestBudget
from autoscaler.kube.resources import STREAM_OPEN, WATCH_SILENT, Object
from autoscaler.kube.skew import ServerClock
from metrics.clock import Clock, WallClock

MERGE_PATCH = "application/merge-patch+json"
# The default of client-go's leader election and well below it for every other call.
REQUEST_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 5.0
# A page of 500 pods is about 4 MB; a list that is larger than this is no list of ours.
PAGE_OBJECTS = 500
BODY_BYTES_MAX = 64 * 1024 * 1024
# etcd's default request limit is 1.5 MiB: no object, hence no watch line, can be much larger.
LINE_BYTES_MAX = 8 * 1024 * 1024
# Bookmarks come about once a minute; a stream silent for two may be dead (a half-open connection tells nobody). It may
# also be of a kind of which the server has seen no change since it started: of those it sends no bookmarks.
WATCH_SILENCE_S = 120.0
# Credentials are read again after a 401, authorities after a certificate that they do not vouch for; not in a loop.
RELOAD_SPACING_S = 10.0
_UNTRUSTED = "Untrusted"

log = logging.getLogger(__name__)


class KubeClient:
    """A connection to one cluster. Use as `async with KubeClient.from_config(None) as client`."""

    def __init__(self, kubeconfig: Path | None, context: str | None, clock: Clock) -> None:
        self._kubeconfig = kubeconfig
        self._context = context
        self._clock = clock
        self._budget = RequestBudget(clock)
        self._server_clock = ServerClock()
        self._api: ApiClient | None = None
        self._watches: set[aiohttp.ClientResponse] = set()  # that are open
        self._loaded_at_s = 0.0
        self.on_answer: Callable[[str, int], None] = lambda _verb, _code: None  # telemetry's hook

    @classmethod
    def from_config(
        cls, kubeconfig: Path | None = None, context: str | None = None, *, clock: Clock | None = None
    ) -> Self:
        """From a kubeconfig file, else from the pod's service account, else from the default kubeconfig."""
        return cls(kubeconfig, context, clock or WallClock())

    async def __aenter__(self) -> Self:
        self._api = _api_client(await self._configuration())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._api is not None:
            await self._api.close()
            self._api = None

    @property
    def server(self) -> str:
        """The API server's address."""
        return str(self._opened().configuration.host)

    def server_ahead_s(self) -> float:
        """How far the API server's clock is ahead of ours."""
        return self._server_clock.ahead_s

    def wait_s(self) -> float:
        """How long the next request would have to wait for its turn; takes that turn."""
        return self._budget.reserve()

    async def get(self, path: str) -> Object:
        """One object, or any JSON document of the API such as /version."""
        return await self._json("GET", path)

    async def pages(self, path: str, *, labels: str | None = None) -> AsyncIterator[tuple[list[Object], str]]:
        """A collection page by page, each with the resource version to watch from."""
        query = {"limit": str(PAGE_OBJECTS)} | ({"labelSelector": labels} if labels else {})
        while True:
            page = await self._json("GET", path, query=query)
            metadata = page.get("metadata") or {}
            yield page.get("items") or [], str(metadata.get("resourceVersion", ""))
            if not metadata.get("continue"):
                return
            query["continue"] = metadata["continue"]

    async def list(self, path: str, *, labels: str | None = None) -> Sequence[Object]:
        """Every object of a collection, over all pages."""
        return [item async for items, _version in self.pages(path, labels=labels) for item in items]

    async def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection; an Event, a review and the like included."""
        return await self._json("POST", path, body=body)

    async def patch(self, path: str, body: Object, content_type: str = MERGE_PATCH) -> Object:
        """Patch an object; a `metadata.resourceVersion` in a merge patch is the version expected."""
        return await self._json("PATCH", path, body=body, content_type=content_type)

    async def delete(self, path: str) -> None:
        """Delete an object, in the background."""
        await self._json("DELETE", path)

    async def watch(
        self, path: str, *, resource_version: str, timeout_s: float, silence_s: float = WATCH_SILENCE_S
    ) -> AsyncIterator[Object]:
        """Events after a resource version until the server ends the stream; the first says that it is open.

        Errors in the stream are raised as `ApiFailure`.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(int(timeout_s)),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=silence_s)
        response = await self._answer("GET", path, query=query, timeout=timeout)
        self._watches.add(response)
        try:
            yield {"type": STREAM_OPEN, "object": {}}
            async for line in _lines(response.content):
                yield _event(line, path)
        except TimeoutError as exc:
            raise Unreachable(0, WATCH_SILENT, f"watching {path}: nothing for {silence_s:g} s") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Unreachable(0, "WatchBroken", f"watching {path}: {_words(exc)}") from exc
        finally:
            self._watches.discard(response)
            response.close()

    async def _json(
        self, verb: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None, content_type: str = ""
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S, sock_connect=CONNECT_TIMEOUT_S)
        response = await self._answer(verb, path, query=query, body=body, content_type=content_type, timeout=timeout)
        try:
            parsed = json.loads(await _bounded(response, f"{verb} {path}"))
        except ValueError as exc:
            raise Unreachable(0, "GarbledAnswer", f"{verb} {path}: the answer is no JSON: {exc}") from exc
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise Unreachable(0, "AnswerCut", f"{verb} {path}: {_words(exc)}") from exc
        finally:
            response.release()
        if not isinstance(parsed, dict):
            raise Unreachable(0, "GarbledAnswer", f"{verb} {path}: the answer is no JSON object")
        return parsed

    async def _answer(self, verb: str, path: str, **request: Any) -> aiohttp.ClientResponse:
        """The successful response, headers read; credentials and authorities are read again once when they fail."""
        try:
            return await self._answer_once(verb, path, **request)
        except (Unauthorized, Unreachable) as failure:
            if not await self._is_renewed(failure):
                raise
        return await self._answer_once(verb, path, **request)

    async def _is_renewed(self, failure: ApiFailure) -> bool:
        """Read the files again where they may be to blame; while one is being replaced, the next try reads it."""
        is_blamed = isinstance(failure, Unauthorized) or failure.reason == _UNTRUSTED
        if not is_blamed or self._clock.now_s() - self._loaded_at_s < RELOAD_SPACING_S:
            return False
        try:
            configuration = await self._configuration()
            renewed = _api_client(configuration)
        except (BadSpecError, OSError) as exc:
            log.warning("credentials cannot be read again: %s", exc)
            return False
        if failure.reason != _UNTRUSTED and not configuration.cert_file:
            self._opened().configuration.api_key = configuration.api_key  # the connections are as good as before
            await renewed.close()
            return True
        old, self._api = self._opened(), renewed
        # aiohttp forgets who reads from a connection that its pool closes, and the reader's time limit with it: a watch
        # would wait for ever for what no longer comes.
        for response in self._watches:
            response.close()
        await old.close()
        return True

    async def _answer_once(
        self,
        verb: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "",
    ) -> aiohttp.ClientResponse:
        await self._budget.acquire()
        api = self._opened()
        headers = {"Accept": "application/json", "User-Agent": api.user_agent}
        if content_type:
            headers["Content-Type"] = content_type
        try:
            await api.update_params_for_auth(headers, [], ["BearerToken"])
            sent_at_s = self._clock.now_s()
            response: aiohttp.ClientResponse = await api.rest_client.request(
                verb,
                f"{self.server}{path}",
                query_params=dict(query) if query else None,
                headers=headers,
                body=body,
                _preload_content=False,
                _request_timeout=timeout,
            )
            date = response.headers.get("Date")
            self._server_clock.heard(date, sent_at_s=sent_at_s, answered_at_s=self._clock.now_s())
            if response.status < 300:
                self._note(verb, response.status)
                return response
            failure = await _refused(response, f"{verb} {path}")
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            reason = _UNTRUSTED if isinstance(exc, aiohttp.ClientSSLError) else "Unreachable"
            failure = Unreachable(0, reason, f"{verb} {path} at {self.server}: {_words(exc)}")
            self._note(verb, 0)
            raise failure from exc
        self._note(verb, failure.code, failure.retry_after_s)
        raise failure

    def _note(self, verb: str, code: int, retry_after_s: float | None = None) -> None:
        if code == 0 or code == 429 or code >= 500:
            self._budget.failed(retry_after_s)
        else:
            self._budget.answered()
        self.on_answer(verb, code)

    def _opened(self) -> ApiClient:
        if self._api is None:
            raise RuntimeError("KubeClient is used outside of its `async with`")
        return self._api

    async def _configuration(self) -> Configuration:
        self._loaded_at_s = self._clock.now_s()
        configuration = Configuration()
        in_cluster = self._kubeconfig is None and "KUBECONFIG" not in os.environ
        try:
            if in_cluster and os.environ.get("KUBERNETES_SERVICE_HOST"):
                load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call] # upstream has no hints here
            else:
                await self._load_file(configuration)
        except (ConfigException, OSError, YAMLError, TypeError, AttributeError) as exc:
            # The loader trips over malformed files in several ways; all of them are for a human to fix.
            raise BadSpecError(f"kubeconfig {self._places()}", "content", "", f"cannot be used: {_words(exc)}") from exc
        return configuration

    async def _load_file(self, configuration: Configuration) -> None:
        await load_kube_config(
            config_file=self._present(),
            context=self._context,
            client_configuration=configuration,
            persist_config=False,
        )

    def _places(self) -> str:
        """Where the kubeconfig may be: files as in PATH."""
        return str(self._kubeconfig or os.environ.get("KUBECONFIG") or "~/.kube/config")

    def _present(self) -> str:
        """The same, if one of them is there: the loader only warns where none is, and stumbles over that later."""
        places = self._places()
        if any(Path(place).expanduser().is_file() for place in places.split(os.pathsep) if place):
            return places
        raise BadSpecError(f"kubeconfig {places}", "file", "", "there is none; --kubeconfig or KUBECONFIG names one")


def _api_client(configuration: Configuration) -> ApiClient:
    client = ApiClient(configuration=configuration)
    client.user_agent = "warmtide"
    return client


async def _refused(response: aiohttp.ClientResponse, doing: str) -> ApiFailure:
    """The API's own words, where it gave a Status object."""
    try:
        text = (await _bounded(response, doing)).decode("utf-8", "replace")
    finally:
        response.release()
    reason, message, details = response.reason or "", text, None
    try:
        status = json.loads(text)
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        reason, message = str(status.get("reason") or reason), str(status.get("message") or text)
        details = status.get("details")
    retry_after_s = _seconds(response.headers.get("Retry-After"))
    return api_failure(response.status, reason, f"{doing}: {message}", retry_after_s, details)


async def _bounded(response: aiohttp.ClientResponse, doing: str) -> bytes:
    chunks: list[bytes] = []
    size_bytes = 0
    async for chunk in response.content.iter_any():
        size_bytes += len(chunk)
        if size_bytes > BODY_BYTES_MAX:
            response.close()
            raise Unreachable(0, "AnswerTooLarge", f"{doing}: more than {BODY_BYTES_MAX} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length up to the limit; aiohttp's own readline stops at its buffer's size."""
    rest = bytearray()
    async for chunk in stream.iter_any():
        rest += chunk
        if b"\n" not in chunk:
            if len(rest) > LINE_BYTES_MAX:
                raise Unreachable(0, "WatchGarbled", f"a watch line of more than {LINE_BYTES_MAX} bytes")
            continue
        *complete, last = bytes(rest).split(b"\n")
        rest = bytearray(last)
        for line in complete:
            if line.strip():
                yield line


def _event(line: bytes, path: str) -> Object:
    try:
        event = json.loads(line)
        kind, obj = event["type"], event["object"]
    except (ValueError, KeyError, TypeError) as exc:
        raise Unreachable(0, "WatchGarbled", f"watching {path}: {line[:80]!r}: {_words(exc)}") from exc
    if not isinstance(obj, dict):
        raise Unreachable(0, "WatchGarbled", f"watching {path}: {line[:80]!r}: its object is no JSON object")
    if kind == "ERROR":
        code = obj.get("code")
        raise api_failure(
            code if isinstance(code, int) else 500, str(obj.get("reason", "")), f"watching {path}: {obj.get('message')}"
        )
    return {"type": kind, "object": obj}


def _seconds(header: str | None) -> float | None:
    """Retry-After in its seconds form; the API server never sends a date."""
    return float(header) if header is not None and header.isdigit() and len(header) < 7 else None


def _words(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}" if str(exc) else type(exc).__name__
