"""What can go wrong in the autoscaler, by who has to act.

AutoscalerError
├── BadSpecError      a human wrote something that cannot be used: say which object, field and value
├── NotEnrolledError  someone asked about a service that nobody scales: say what there is and how to enrol
└── RetryLaterError   the world is not ready: try again, later and later
    ├── NotLeadingError   another replica writes: this one must not
    └── ApiFailure    the Kubernetes API said no, or nothing: code, reason, message, when to come back
        ├── Unreachable               no answer: connection, TLS, deadline (code 0)
        ├── Unauthorized              401: the credentials are not accepted
        ├── Forbidden                 403: a permission is missing; the feature that needs it is off
        ├── NotFound                  404: no such object, or no such kind of object
        │   └── NamespaceTerminating  403 for that cause: the object's namespace goes, and whatever is in it
        ├── Conflict                  409: the object moved on, or exists already: read again
        ├── Expired                   410: the watch's past is gone: list again
        ├── Invalid                   400, 415, 422: the API does not accept what we sent
        ├── Throttled                 429: too much at once; `retry_after_s` says how long to wait
        └── TooLargeResourceVersion   504: the server is behind what we saw: list again
"""

# Enough to recognise a value; a megabyte pasted into a field must not reach status, Events or logs.
SHOWN_VALUE_CHARS = 80
# The API quotes whole objects in some answers; the head names the object and the field.
SHOWN_MESSAGE_CHARS = 300


class AutoscalerError(Exception):
    """Everything the autoscaler raises on purpose."""


class RetryLaterError(AutoscalerError):
    """Nothing a human must fix; trying again later may work."""


class NotLeadingError(RetryLaterError):
    """The lease is not ours, or no longer surely ours: nothing may be written."""


class BadSpecError(AutoscalerError):
    """A human must fix this: names the object, the field and the value."""

    def __init__(self, object_name: str, field: str, value: str, message: str) -> None:
        self.object_name = object_name
        self.field = field
        self.value = shorten(value)
        self.message = message
        said = f"{self.value} {message}" if self.value else message
        super().__init__(f"{object_name}: {field}: {said}")


class NotEnrolledError(AutoscalerError):
    """Nobody scales this service."""


def shorten(text: str, limit: int = SHOWN_VALUE_CHARS) -> str:
    """The text on one line, cut to a length that fits a status field."""
    flat = " ".join(text[: 4 * limit].split())
    return flat if len(flat) <= limit and len(text) <= 4 * limit else flat[: limit - 1] + "…"


class ApiFailure(RetryLaterError):
    """The Kubernetes API did not do what we asked."""

    def __init__(self, code: int, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{code or 'no answer'} {reason}: {shorten(message, SHOWN_MESSAGE_CHARS)}")
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


class Unreachable(ApiFailure):
    """No answer: connection refused or cut, TLS trouble, deadline passed."""


class Unauthorized(ApiFailure):
    """The credentials are not accepted."""


class Forbidden(ApiFailure):
    """A permission is missing."""


class NotFound(ApiFailure):
    """No such object, or no such kind of object."""


class NamespaceTerminating(NotFound):
    """Nothing new is taken by a namespace that is being deleted: what it was for is as good as deleted, too."""


class Conflict(ApiFailure):
    """The object moved on since it was read, or it exists already."""


class Expired(ApiFailure):
    """The resource version asked for is too old to watch from."""


class Invalid(ApiFailure):
    """The API does not accept what was sent."""


class Throttled(ApiFailure):
    """Too many requests."""


class TooLargeResourceVersion(ApiFailure):
    """The server has not yet seen the resource version that we have."""


# In `details.causes` of the 403 of the API server's NamespaceLifecycle admission (k8s.io/api/core/v1).
_TERMINATING = "NamespaceTerminating"

_BY_CODE: dict[int, type[ApiFailure]] = {
    0: Unreachable,
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Expired,
    415: Invalid,
    422: Invalid,
    429: Throttled,
}


def api_failure(
    code: int, reason: str, message: str, retry_after_s: float | None = None, details: object = None
) -> ApiFailure:
    """The failure that fits an API answer. 504 counts as too-large only when the message says so."""
    if code == 403 and (said := _said_of(_TERMINATING, details)) is not None:
        return NamespaceTerminating(code, _TERMINATING, said)
    if code == 504 and "resource version" in message.lower():
        return TooLargeResourceVersion(code, reason, message, retry_after_s)
    return _BY_CODE.get(code, ApiFailure)(code, reason, message, retry_after_s)


def _said_of(cause: str, details: object) -> str | None:
    """What an answer's details say of a cause; None: it is not among them."""
    causes = details.get("causes") if isinstance(details, dict) else None
    for each in causes if isinstance(causes, list) else ():
        if isinstance(each, dict) and each.get("reason") == cause:
            return str(each.get("message", ""))
    return None
