"""Results as JSON bytes, in the form the client asked for: whole objects, tables, or metadata alone."""

from enum import Enum
from math import ceil

from aiohttp import hdrs, web

from simulations.cluster.api import ApiError, Object
from simulations.cluster.apiserver.errors import status_of
from simulations.cluster.apiserver.kinds import Kind
from simulations.cluster.apiserver.objects import Objects
from simulations.cluster.apiserver.queries import Page
from simulations.cluster.apiserver.store import Stored, encode
from simulations.cluster.apiserver.table import partial, table

JSON = "application/json"


class Form(Enum):
    """How much of an object a client wants."""

    FULL = "object"
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"


def form_of(request: web.Request) -> Form:
    """The first form in the Accept header that is served."""
    for part in request.headers.get(hdrs.ACCEPT, "").split(","):
        if "as=Table" in part:
            return Form.TABLE
        if "as=PartialObjectMetadata" in part:
            return Form.METADATA
        if part.split(";")[0].strip() in (JSON, "*/*"):
            return Form.FULL
    return Form.FULL


def json_response(body: Object, *, code: int = 200) -> web.Response:
    return web.Response(body=encode(body), status=code, content_type=JSON)


def status_response(error: ApiError) -> web.Response:
    """An error as a Status; Retry-After where the error says so."""
    response = json_response(status_of(error), code=error.code)
    retry_after_s = error.details.get("retryAfterSeconds")
    if retry_after_s is not None:
        response.headers[hdrs.RETRY_AFTER] = str(ceil(retry_after_s))
    return response


class Answers:
    """Answers about one kind, in one form."""

    def __init__(self, objects: Objects, kind: Kind, form: Form, now_s: float) -> None:
        self._objects = objects
        self._kind = kind
        self._form = form
        self._now_s = now_s

    def one(self, obj: Object) -> web.Response:
        return web.Response(body=self._shaped(obj), content_type=JSON)

    def encoded(self, stored: Stored) -> bytes:
        """One object; bytes that were made once for its version where the form allows."""
        shown = self._objects.view(self._kind, stored)
        if self._form is Form.FULL and shown is stored.object:
            return stored.encoded
        return self._shaped(shown)

    def _shaped(self, obj: Object) -> bytes:
        if self._form is Form.TABLE:
            return encode(
                table(self._kind, [obj], self._now_s, {"resourceVersion": obj["metadata"]["resourceVersion"]})
            )
        return encode(partial(obj) if self._form is Form.METADATA else obj)

    def page(self, page: Page) -> web.Response:
        metadata: Object = {"resourceVersion": str(page.version)}
        if page.next_page:
            metadata["continue"] = page.next_page
        if page.remaining is not None:
            metadata["remainingItemCount"] = page.remaining
        if self._form is Form.TABLE:
            shown = [self._objects.view(self._kind, item) for item in page.items]
            return json_response(table(self._kind, shown, self._now_s, metadata))
        resource = self._kind.resource
        kind, version = f"{resource.kind}List", resource.api_version
        if self._form is Form.METADATA:
            kind, version = "PartialObjectMetadataList", "meta.k8s.io/v1"
        head = encode({"kind": kind, "apiVersion": version, "metadata": metadata})
        items = b",".join(self.encoded(item) for item in page.items)
        return web.Response(body=head[:-1] + b',"items":[' + items + b"]}", content_type=JSON)
