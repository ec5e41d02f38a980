"""The server's HTTP face: from a request to verbs on objects, from results to JSON, from errors to Status."""

import asyncio
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from aiohttp import hdrs, web

from metrics.clock import Clock
from simulations.cluster.api import NAMESPACES, ApiError, Object
from simulations.cluster.apiserver import discovery, reviews
from simulations.cluster.apiserver.admission import UnknownFields
from simulations.cluster.apiserver.answers import Answers, Form, form_of, json_response, status_response
from simulations.cluster.apiserver.calls import Call, parse_call
from simulations.cluster.apiserver.errors import (
    bad_request,
    forbidden,
    method_not_allowed,
    not_found,
    unsupported_media_type,
)
from simulations.cluster.apiserver.faults import Faults
from simulations.cluster.apiserver.gc import DeleteOptions
from simulations.cluster.apiserver.kinds import Kind
from simulations.cluster.apiserver.objects import Objects, Patch, Target
from simulations.cluster.apiserver.queries import ListQuery, list_page, parse_version
from simulations.cluster.apiserver.rbac import AUTHENTICATED, Access, User, authenticate
from simulations.cluster.apiserver.selectors import matcher, parse_fields, parse_labels
from simulations.cluster.apiserver.watches import Watches, WatchRequest

_log = logging.getLogger(__name__)
_HEALTH_PATHS = ("/healthz", "/livez", "/readyz")


@dataclass(slots=True, kw_only=True)
class Front:
    """What answers HTTP requests."""

    objects: Objects
    access: Access
    clock: Clock
    tokens: Mapping[str, User]
    version_wait_s: float
    watches: Watches
    faults: Faults = field(default_factory=Faults)
    latency_s: float = 0.0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        try:
            if self.latency_s > 0:
                await self.clock.sleep(self.latency_s)
            return await self._answer(request)
        except ApiError as error:
            return status_response(error)
        except (web.HTTPException, json.JSONDecodeError, UnicodeDecodeError) as exc:
            if isinstance(exc, web.HTTPRequestEntityTooLarge):
                message = f"Request entity too large: limit is {request.client_max_size}"
                return status_response(ApiError(413, "RequestEntityTooLarge", message))
            return status_response(bad_request(f"the object provided is unrecognized: {exc}"))
        except Exception:  # noqa: BLE001 - a request's top: one bad request must not look like a dead server
            _log.exception("%s %s failed", request.method, request.path)
            return status_response(ApiError(500, "InternalError", "Internal error occurred: see the server's log"))

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        user = authenticate(self.tokens, request.headers.get(hdrs.AUTHORIZATION, ""))
        user = self._impersonated(request, user)
        call = parse_call(request.method, request.path, request.query)
        if call is None:
            return self._about_server(request, user)
        self.access.check(user, call)
        try:
            self.faults.check(call)
        except ApiError as error:
            if call.verb == "watch" and error.code in (410, 504):  # the real server tells these within the stream
                return await self.watches.refuse(request, error)
            raise
        if call.group in reviews.GROUPS:
            return json_response(reviews.answer(call, await _body(request), user, self.access), code=201)
        return await self._on_resource(request, call)

    def _impersonated(self, request: web.Request, user: User) -> User:
        """`kubectl --as`: acting as somebody else is a right of its own."""
        name = request.headers.get("Impersonate-User")
        if not name:
            return user
        self.access.check(user, Call(verb="impersonate", group="", version="v1", plural="users", name=name))
        return User(name, (*request.headers.getall("Impersonate-Group", []), AUTHENTICATED))

    def _about_server(self, request: web.Request, user: User) -> web.Response:
        self.access.check_path(user, request.method.lower(), request.path)
        if request.method not in ("GET", "HEAD"):
            raise method_not_allowed()
        if request.path in _HEALTH_PATHS:
            return web.Response(text="ok")
        return json_response(discovery.document(self.objects.registry, request.path))

    async def _on_resource(self, request: web.Request, call: Call) -> web.StreamResponse:
        kind = self.objects.registry.find(call.group, call.version, call.plural)
        if kind.resource.namespaced and call.namespace is None and (call.name or call.verb == "create"):
            raise method_not_allowed() if call.verb == "create" else not_found(kind.resource, call.name)
        answers = Answers(self.objects, kind, form_of(request), self.clock.now_s())
        if call.verb == "watch":
            query = self._list_query(request, call, kind)
            await self._wait_for_version(query.version)
            return await self.watches.serve(request, WatchRequest.of(kind, query, request.query), answers)
        if call.verb == "list":
            return await self._list(request, call, kind, answers)
        if call.verb == "deletecollection":
            return await self._delete_collection(request, call, kind)
        return await self._on_object(request, call, Target(kind, call.namespace or "", call.name, call.subresource))

    # --- many objects ---

    def _list_query(self, request: web.Request, call: Call, kind: Kind) -> ListQuery:
        query = request.query
        labels = parse_labels(query.get("labelSelector", ""))
        fields = parse_fields(query.get("fieldSelector", f"metadata.name={call.name}" if call.name else ""), kind)
        limit = query.get("limit", "0")
        if not limit.isdigit():
            raise bad_request(f"limit {limit!r} is not a number")
        return ListQuery(
            namespace=call.namespace,
            matcher=matcher(labels, fields),
            version=query.get("resourceVersion", ""),
            version_match=query.get("resourceVersionMatch", ""),
            limit=int(limit),
            page=query.get("continue", ""),
        )

    async def _wait_for_version(self, text: str) -> None:
        """A future version may be just about to happen; the real server waits up to 3 s for it."""
        version = parse_version(text)
        if version > self.objects.store.version:
            try:
                async with asyncio.timeout(self.version_wait_s):
                    await self.objects.store.reach(version)
            except TimeoutError:
                return  # whoever reads at this version says 504

    async def _list(self, request: web.Request, call: Call, kind: Kind, answers: Answers) -> web.Response:
        query = self._list_query(request, call, kind)
        await self._wait_for_version(query.version)
        return answers.page(list_page(self.objects.store, self.objects.collection(kind), query))

    async def _delete_collection(self, request: web.Request, call: Call, kind: Kind) -> web.Response:
        if kind.resource.namespaced and call.namespace is None:
            raise method_not_allowed()
        options = await _delete_options(request)
        query = self._list_query(request, call, kind)
        page = list_page(self.objects.store, self.objects.collection(kind), query)
        for item in page.items:
            if self.objects.store.by_uid(item.uid) is not None:  # an owner among them may have taken it along
                self.objects.delete(Target(kind, item.namespace, item.name), options)
        return Answers(self.objects, kind, Form.FULL, self.clock.now_s()).page(page)

    # --- one object ---

    async def _on_object(self, request: web.Request, call: Call, target: Target) -> web.Response:
        _refuse_dry_run(request)
        if call.verb == "get":
            return self._one(request, target, self.objects.get(target))
        if call.verb == "delete":
            return self._deleted(target, await _delete_options(request))
        if call.verb == "patch":
            patch, unknown = Patch(request.content_type, await _json(request)), _unknown_fields(request)
            return _warned(self._one(request, target, self.objects.patch(target, patch, unknown)), unknown)
        body, unknown = await _body(request), _unknown_fields(request)
        if call.verb == "update":
            return _warned(self._one(request, target, self.objects.update(target, body, unknown)), unknown)
        return self._created(request, target, body)

    def _one(self, request: web.Request, target: Target, obj: Object) -> web.Response:
        if target.subresource == "scale":
            return json_response(obj)
        return Answers(self.objects, target.kind, form_of(request), self.clock.now_s()).one(obj)

    def _created(self, request: web.Request, target: Target, body: Object) -> web.Response:
        if target.subresource == "binding":
            self.objects.bind(target, body)
            return json_response(_success(201), code=201)
        if target.subresource == "eviction":
            self.objects.delete(Target(target.kind, target.namespace, target.name), DeleteOptions())
            return json_response(_success(201), code=201)
        if target.name:
            raise method_not_allowed()
        unknown = _unknown_fields(request)
        return _warned(json_response(self.objects.create(target, body, unknown), code=201), unknown)

    def _deleted(self, target: Target, options: DeleteOptions) -> web.Response:
        if target.subresource:
            raise method_not_allowed()
        if target.kind.resource == NAMESPACES and target.name in ("default", "kube-system", "kube-public"):
            raise forbidden(NAMESPACES, target.name, "this namespace may not be deleted")
        last, is_gone = self.objects.delete(target, options)
        if not is_gone or target.kind.resource.kind == "Pod":
            return json_response(last)
        resource = target.kind.resource
        details = {
            "name": target.name,
            "group": resource.group,
            "kind": resource.plural,
            "uid": last["metadata"]["uid"],
        }
        return json_response(_success(200) | {"details": {name: value for name, value in details.items() if value}})


def _success(code: int) -> Object:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code}


_PROTOBUF = "application/vnd.kubernetes.protobuf"


async def _json(request: web.Request) -> object:
    raw = await request.read()
    if request.content_type == _PROTOBUF:  # client-go's typed clients; `kubectl apply -f` and its like speak JSON
        raise unsupported_media_type(["application/json"])
    return json.loads(raw) if raw else None


async def _body(request: web.Request) -> Object:
    body = await _json(request)
    if not isinstance(body, dict):
        raise bad_request(f"the body must be an object, not {type(body).__name__}")
    return body


def _unknown_fields(request: web.Request) -> UnknownFields:
    value = request.query.get("fieldValidation") or "Warn"
    match value:
        case "Ignore" | "Strict" | "Warn":
            return UnknownFields(value)
    supported = '"Ignore", "Strict", "Warn"'
    raise bad_request(f'fieldValidation: Unsupported value: "{value}": supported values: {supported}')


def _warned(response: web.Response, unknown: UnknownFields) -> web.Response:
    """Tell the client which of its fields were dropped."""
    for path in unknown.pruned if unknown.validation == "Warn" else ():
        response.headers.add(hdrs.WARNING, f'299 - "unknown field \\"{path}\\""')
    return response


def _refuse_dry_run(request: web.Request) -> None:
    """A dry run that writes would be worse than none."""
    if request.query.get("dryRun"):
        raise bad_request("dryRun is not served by this API server")


async def _delete_options(request: web.Request) -> DeleteOptions:
    raw = await _json(request) or {}
    body: Object = raw if isinstance(raw, dict) else {}
    before = body.get("preconditions") or {}
    grace = request.query.get("gracePeriodSeconds", body.get("gracePeriodSeconds"))
    policy = request.query.get("propagationPolicy") or body.get("propagationPolicy") or "Background"
    if policy not in ("Background", "Foreground", "Orphan"):
        raise bad_request(f"invalid propagationPolicy {policy!r}: must be Background, Foreground or Orphan")
    if grace is not None and not str(grace).lstrip("-").isdigit():
        raise bad_request(f"gracePeriodSeconds {grace!r} is not a number")
    return DeleteOptions(
        grace_s=None if grace is None else int(grace),
        policy=policy,
        uid=before.get("uid"),
        version=before.get("resourceVersion"),
    )
