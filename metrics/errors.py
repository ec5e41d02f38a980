"""What can go wrong with a measurement, and who acts on it.

MetricsError
├── ExpositionError          the text is not what its format says (the server's bug, or a cut page)
├── NotAnEngineError         well-formed, but no vLLM series on it (a wrong port or path: a human looks)
├── ScrapeError              one pod could not be read; `kind` says how (the next scrape is the retry)
├── TelemetryError           our own instruments could not be set up (a human fixes the configuration)
└── HistoryError             a Prometheus server gave no answer to use
    ├── HistoryUnauthorizedError   401 or 403: a human fixes the credentials
    ├── HistoryOutageError         unreachable, too slow or 5xx: ask again later
    └── HistoryQueryError          the server understood, and refuses this query: a bug or a bad setting

An empty answer and a partial one are no errors: they are values (`metrics.prometheus`).
"""

from enum import StrEnum


class MetricsError(Exception):
    """Any trouble with a measurement."""


class ExpositionError(MetricsError):
    """A metrics page that breaks its format; `line` counts from 1, 0 stands for the page."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"metrics page, line {line}: {what}" if line else f"metrics page: {what}")
        self.line = line
        self.what = what


class NotAnEngineError(MetricsError):
    """A page without a single vLLM series that we know."""


class ScrapeFailure(StrEnum):
    """How reading one pod failed. Stable: telemetry and status use these names."""

    TIMEOUT = "Timeout"  # no whole answer within the deadline
    REFUSED = "Refused"  # nobody listens, or no such host
    BROKEN = "Broken"  # the connection ended within the answer
    STATUS = "Status"  # an HTTP status other than 200; redirects too
    TOO_LARGE = "TooLarge"  # the body exceeds the bound, as sent or once unpacked
    UNPARSABLE = "Unparsable"  # it breaks the exposition format
    NOT_VLLM = "NotVLLM"  # no vLLM series on the page; an empty one too
    TLS = "TLS"  # certificate or handshake, or a CA file that cannot be read
    CREDENTIALS = "Credentials"  # the token file cannot be read


class ScrapeError(MetricsError):
    """One pod could not be read."""

    def __init__(self, target: str, kind: ScrapeFailure, what: str) -> None:
        super().__init__(f"scrape of {target} failed ({kind}): {what}")
        self.target = target
        self.kind = kind
        self.what = what


class TelemetryError(MetricsError):
    """Our own instruments could not be set up."""


class HistoryError(MetricsError):
    """A Prometheus server gave no answer to use."""


class HistoryUnauthorizedError(HistoryError):
    """401 or 403: the credentials need a human."""


class HistoryOutageError(HistoryError):
    """Unreachable, too slow or 5xx: ask again later."""


class HistoryQueryError(HistoryError):
    """The server refuses this query; `query` is its text."""

    def __init__(self, query: str, what: str) -> None:
        super().__init__(f"query {query!r} was refused: {what}")
        self.query = query
