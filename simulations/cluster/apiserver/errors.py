"""What the API answers when it says no, in the words of the real API server.

ApiError (simulations.cluster.api)    the caller acts on code and reason
BadSpecError                          a CRD or a token file that a human must mend
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from simulations.cluster.api import ApiError, Object, Resource


class BadSpecError(Exception):
    """Something a human wrote cannot be used."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One wrong field. `reason` is one of the API's FieldValue… words."""

    field: str
    message: str
    reason: str = "FieldValueInvalid"

    @property
    def line(self) -> str:
        """As it stands in the message of a 422."""
        return f"{self.field}: {self.message}"


def invalid_value(field: str, value: object, message: str) -> Cause:
    """A field that holds something it must not."""
    return Cause(field, f"Invalid value: {json.dumps(value)}: {message}")


def required_value(field: str, message: str = "") -> Cause:
    """A field that must be there and is not."""
    return Cause(field, "Required value" + (f": {message}" if message else ""), "FieldValueRequired")


def qualified(group: str, name: str) -> str:
    """`deployments.apps`, or plain `pods` in the core group."""
    return f"{name}.{group}" if group else name


def _details(resource: Resource, name: str, kind: str | None = None) -> Object:
    details: Object = {"kind": kind or resource.plural}
    if name:
        details["name"] = name
    if resource.group:
        details["group"] = resource.group
    return details


def not_found(resource: Resource, name: str) -> ApiError:
    message = f'{qualified(resource.group, resource.plural)} "{name}" not found'
    return ApiError(404, "NotFound", message, _details(resource, name))


def no_such_path() -> ApiError:
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource: Resource, name: str) -> ApiError:
    message = f'{qualified(resource.group, resource.plural)} "{name}" already exists'
    return ApiError(409, "AlreadyExists", message, _details(resource, name))


MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> ApiError:
    message = f'Operation cannot be fulfilled on {qualified(resource.group, resource.plural)} "{name}": {why}'
    return ApiError(409, "Conflict", message, _details(resource, name))


def invalid(resource: Resource, name: str, causes: Sequence[Cause]) -> ApiError:
    """422 with every wrong field as a cause."""
    lines = [cause.line for cause in causes]
    summary = lines[0] if len(lines) == 1 else f"[{', '.join(lines)}]"
    message = f'{qualified(resource.group, resource.kind)} "{name}" is invalid: {summary}'
    details = _details(resource, name, resource.kind)
    details["causes"] = [{"reason": c.reason, "message": c.message, "field": c.field} for c in causes]
    return ApiError(422, "Invalid", message, details)


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unprocessable(message: str) -> ApiError:
    """A patch that is well formed and cannot be applied."""
    return ApiError(422, "Invalid", f"the server rejected our request due to an error in our request: {message}")


def forbidden(resource: Resource, name: str, why: str) -> ApiError:
    shown = (
        f'{qualified(resource.group, resource.plural)} "{name}"' if name else qualified(resource.group, resource.plural)
    )
    return ApiError(403, "Forbidden", f"{shown} is forbidden: {why}", _details(resource, name))


def namespace_terminating(resource: Resource, name: str, namespace: str) -> ApiError:
    """What is created in a namespace that goes (k8s.io/apiserver, plugin/namespace/lifecycle)."""
    why = f"unable to create new content in namespace {namespace} because it is being terminated"
    error = forbidden(resource, name, why)
    cause = f"namespace {namespace} is being terminated"
    error.details["causes"] = [{"reason": "NamespaceTerminating", "message": cause, "field": "metadata.namespace"}]
    return error


def unauthorized() -> ApiError:
    return ApiError(401, "Unauthorized", "Unauthorized")


def method_not_allowed() -> ApiError:
    return ApiError(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")


def unsupported_media_type(accepted: Sequence[str], extra: str = "") -> ApiError:
    message = "the body of the request was in an unknown format - accepted media types include: " + ", ".join(accepted)
    return ApiError(415, "UnsupportedMediaType", message + extra)


def expired(message: str) -> ApiError:
    return ApiError(410, "Expired", message)


def too_old_version(version: int, oldest: int) -> ApiError:
    return expired(f"too old resource version: {version} ({oldest})")


def too_large_version(version: int, current: int) -> ApiError:
    details: Object = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }
    return ApiError(504, "Timeout", f"Timeout: Too large resource version: {version}, current: {current}", details)


REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
    422: "Invalid", 429: "TooManyRequests", 500: "InternalError", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


def status_of(error: ApiError) -> Object:
    """The Status object that carries an error."""
    status: Object = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": error.message,
        "reason": error.reason,
        "code": error.code,
    }
    if error.details:
        status["details"] = error.details
    return status


def error_from(status: Object, code: int) -> ApiError:
    """The error that a Status object carries; tolerant of answers that are none."""
    number = status.get("code") or code
    reason = status.get("reason") or REASONS.get(number, "Unknown")
    return ApiError(number, reason, status.get("message") or f"HTTP {number}", status.get("details"))
