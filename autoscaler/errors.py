"""What can go wrong in the autoscaler, by who has to act.

AutoscalerError
├── BadSpecError      a human wrote something that cannot be used: say which object, field and value
└── RetryLaterError   the world is not ready: try again, later and later
"""

# Enough to recognise a value; a megabyte pasted into a field must not reach status, Events or logs.
SHOWN_VALUE_CHARS = 80


class AutoscalerError(Exception):
    """Everything the autoscaler raises on purpose."""


class RetryLaterError(AutoscalerError):
    """Nothing a human must fix; trying again later may work."""


class BadSpecError(AutoscalerError):
    """A human must fix this: names the object, the field and the value."""

    def __init__(self, object_name: str, field: str, value: str, message: str) -> None:
        self.object_name = object_name
        self.field = field
        self.value = shorten(value)
        self.message = message
        said = f"{self.value} {message}" if self.value else message
        super().__init__(f"{object_name}: {field}: {said}")


def shorten(text: str, limit: int = SHOWN_VALUE_CHARS) -> str:
    """The text on one line, cut to a length that fits a status field."""
    flat = " ".join(text[: 4 * limit].split())
    return flat if len(flat) <= limit and len(text) <= 4 * limit else flat[: limit - 1] + "…"
