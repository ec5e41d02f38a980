"""History, and numbers of now, from a Prometheus server, through prometheus-api-client (synchronous, so in a thread).

Four answers are told apart: data; nothing (`is_empty`, a value); a part (`is_partial`, a value with `notes`);
and an error that says who acts (`metrics.errors`). NaN and infinity are dropped on the way in.

Every query shipped here takes both spellings, `vllm:x` and `vllm_x`: a Prometheus that asks for
OpenMetrics gets the second from prometheus_client (client_python#1177), and one history may hold both.
They are joined by `or`, not by a regex on `__name__`: once `rate` drops the name, the two collide, and
Prometheus 2.42 refuses the whole range (HTTP 422, "vector cannot contain metrics with the same labelset").
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from prometheus_api_client.exceptions import PrometheusApiClientException
from prometheus_api_client.prometheus_connect import PrometheusConnect

from metrics.clock import Clock, WallClock
from metrics.errors import HistoryError, HistoryOutageError, HistoryQueryError, HistoryUnauthorizedError
from metrics.threads import in_thread

ANSWER_BYTES_MAX = 32_000_000  # a week of one service at 60 s is 0.4 MB
STEPS_MAX = 11_000  # Prometheus' own limit of points per series
TAIL_STEPS = 2  # data that ends more steps than this before the end has lost its tail
RATE_WINDOW_S = 120.0  # at least four scrapes of the usual 30 s

_RANGE_KINDS, _INSTANT_KINDS = frozenset({"matrix"}), frozenset({"vector", "scalar", "string", "matrix"})
_WRAPPING = re.compile(r"^HTTPS?Connection\w*\([^)]*\): ")
_NO_RETRY = urllib3.Retry(total=0)  # the caller retries later; a start must not hang here


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfig:
    """Where the Prometheus API is, and how to be let in."""

    url: str
    bearer_token_file: Path | None = None
    ca_file: Path | None = None  # None: the system's
    insecure: bool = False  # take any certificate
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"Prometheus url must be http(s)://host…, got {self.url!r}")
        if not self.timeout_s > 0:
            raise ValueError(f"Prometheus timeout must be > 0 s, got {self.timeout_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class HistorySeries:
    """One series: its labels and finite points, (Unix seconds, value), oldest first."""

    labels: tuple[tuple[str, str], ...]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryResult:
    """What the server knows. `notes` say why it may not be all; `infos` are remarks on the query."""

    series: tuple[HistorySeries, ...]
    notes: tuple[str, ...] = ()
    infos: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing at all: no such series, or no finite point in it."""
        return not any(series.points for series in self.series)

    @property
    def is_partial(self) -> bool:
        """Some of it is missing, and `notes` say what."""
        return bool(self.notes)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstantResult:
    """One number of now. `value` is None where the server has no such series, or no number in it (`said`: NaN)."""

    value: float | None
    said: str = ""  # as the server wrote it
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Nothing that could be calculated with. It is not zero."""
        return self.value is None

    @property
    def is_partial(self) -> bool:
        """Some series may be missing from it, and `notes` say why."""
        return bool(self.notes)


class History:
    """Queries to one Prometheus server."""

    def __init__(self, config: HistoryConfig, clock: Clock | None = None) -> None:
        self._config = config
        self._clock = clock or WallClock()
        if config.insecure:
            # the user asked for it; a warning per query would drown the log
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    async def query_range(self, promql: str, *, start_s: float, end_s: float, step_s: float) -> HistoryResult:
        """All series of a query over a range; a `HistoryError` says why there is no answer."""
        if not (step_s > 0 and start_s <= end_s and (end_s - start_s) / step_s <= STEPS_MAX):
            raise ValueError(f"range must have 0..{STEPS_MAX} steps, got {start_s}..{end_s} by {step_s} s")
        start, end, step = _time(start_s), _time(end_s), f"{step_s:g}"
        answer = await self._ask(promql, lambda client: client.custom_query_range(promql, start, end, step))
        return _result(answer, end_s=end_s, step_s=step_s)

    async def query(self, promql: str) -> InstantResult:
        """The one number that a query gives now; a `HistoryError` says why there is none."""
        answer = await self._ask(promql, lambda client: client.custom_query(promql), is_range=False)
        return _instant(answer, promql)

    async def _ask(
        self, promql: str, send: Callable[[PrometheusConnect], object], *, is_range: bool = True
    ) -> Mapping[str, Any]:
        kinds = _RANGE_KINDS if is_range else _INSTANT_KINDS
        return await in_thread(lambda: self._answer(promql, send, kinds))

    def _answer(
        self, promql: str, send: Callable[[PrometheusConnect], object], kinds: frozenset[str]
    ) -> Mapping[str, Any]:
        """Runs in a thread, with a session of its own: requests' sessions are not thread-safe."""
        config = self._config
        with _Session(self._clock, config.timeout_s) as session:
            session.verify = False if config.insecure else str(config.ca_file) if config.ca_file else True
            try:
                client = PrometheusConnect(
                    url=config.url.rstrip("/"),
                    headers=self._headers(),
                    session=session,
                    retry=_NO_RETRY,
                )
                send(client)
                return _checked(session.answers[-1], kinds)
            except PrometheusApiClientException as exc:
                raise _refusal(session.answers[-1], config.url, promql) from exc
            except (requests.RequestException, OSError) as exc:
                raise HistoryOutageError(f"Prometheus {config.url} gave no answer: {_cause(exc)}") from exc
            except (KeyError, TypeError, ValueError) as exc:
                raise HistoryOutageError(f"{config.url} does not answer as a Prometheus API: {exc!r}") from exc

    def _headers(self) -> dict[str, str]:
        path = self._config.bearer_token_file
        if path is None:
            return {}
        try:
            return {"Authorization": f"Bearer {path.read_text(encoding='ascii').strip()}"}
        except (OSError, ValueError) as exc:
            raise HistoryUnauthorizedError(f"bearer token file {path} cannot be read: {exc}") from exc


class _Session(requests.Session):
    """Bounds each answer in time and size, and keeps it: the client hands on the series, not the warnings."""

    def __init__(self, clock: Clock, timeout_s: float) -> None:
        super().__init__()
        self.trust_env = False  # else a .netrc replaces our Authorization header
        self.answers: list[requests.Response] = []
        self._clock = clock
        self._timeout_s = timeout_s

    def request(self, *args: Any, **kwargs: Any) -> requests.Response:
        ends_at_s = self._clock.now_s() + self._timeout_s
        # a redirect is a login page or another host: neither must get the token
        kwargs |= {"stream": True, "allow_redirects": False, "timeout": self._timeout_s}
        response = super().request(*args, **kwargs)
        body = bytearray()
        for chunk in response.iter_content(chunk_size=65_536):
            body += chunk
            if len(body) > ANSWER_BYTES_MAX:
                raise requests.RequestException(f"the answer exceeds {ANSWER_BYTES_MAX} bytes")
            if self._clock.now_s() > ends_at_s:
                raise requests.Timeout(f"no whole answer within {self._timeout_s:g} s")
        response._content = bytes(body)  # what `stream=False` would have set
        self.answers.append(response)
        return response


def _time(at_s: float) -> datetime:
    return datetime.fromtimestamp(at_s, tz=UTC)


def _checked(response: requests.Response, kinds: frozenset[str]) -> Mapping[str, Any]:
    answer: dict[str, Any] = response.json()
    if answer["data"]["resultType"] not in kinds:
        raise ValueError(f"resultType {answer['data']['resultType']!r}")
    return answer


def _cause(exc: Exception) -> str:
    """What happened, without the client's own wrapping: it repeats the address and the query, which a status has."""
    inner = exc.args[0] if exc.args else None
    return _WRAPPING.sub("", str(getattr(inner, "reason", None) or exc))


def _refusal(response: requests.Response, url: str, promql: str) -> HistoryError:
    status, said = response.status_code, _error_text(response)
    if status in (401, 403):
        return HistoryUnauthorizedError(f"Prometheus {url} refuses our credentials: HTTP {status} {said}".rstrip())
    if status in (400, 422):  # bad_data; execution error, too many samples among them
        return HistoryQueryError(promql, f"HTTP {status} {said}".rstrip())
    return HistoryOutageError(f"Prometheus {url} gave no answer: HTTP {status} {said}".rstrip())


def _error_text(response: requests.Response) -> str:
    try:
        return str(response.json()["error"])[:500]
    except (ValueError, KeyError, TypeError):
        return str(response.reason or "")[:100]


def _result(answer: Mapping[str, Any], *, end_s: float, step_s: float) -> HistoryResult:
    try:
        series = tuple(_series(raw) for raw in answer["data"]["result"])
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise HistoryOutageError(f"a Prometheus series is not as its API says: {exc!r}") from exc
    notes = [*_texts(answer.get("warnings"))]
    newest_s = max((one.points[-1][0] for one in series if one.points), default=None)
    if newest_s is not None and end_s - newest_s > TAIL_STEPS * step_s:
        notes.append(f"the data ends {end_s - newest_s:.0f} s before the range does")
    return HistoryResult(series=series, notes=tuple(notes), infos=tuple(_texts(answer.get("infos"))))


def _instant(answer: Mapping[str, Any], promql: str) -> InstantResult:
    kind, found = answer["data"]["resultType"], answer["data"]["result"]
    notes = tuple(_texts(answer.get("warnings")))
    if kind not in ("scalar", "vector"):
        raise HistoryQueryError(promql, f"it gives a {kind}, not one number of now")
    if not isinstance(found, list):
        raise HistoryOutageError(f"a Prometheus {kind} is not as its API says: {type(found).__name__}")
    if kind == "vector" and len(found) > 1:
        raise HistoryQueryError(promql, f"it gives {len(found)} series, not one number: aggregate with sum()")
    if not found:
        return InstantResult(value=None, notes=notes)
    try:
        said = str((found if kind == "scalar" else found[0]["value"])[1])
        value = float(said)
    except (KeyError, TypeError, ValueError, IndexError) as exc:
        raise HistoryOutageError(f"a Prometheus value is not as its API says: {exc!r}") from exc
    return InstantResult(value=value if math.isfinite(value) else None, said=said, notes=notes)


def _series(raw: Mapping[str, Any]) -> HistorySeries:
    points = ((float(at_s), float(value)) for at_s, value in raw.get("values", ()))
    return HistorySeries(
        labels=tuple(sorted((str(name), str(value)) for name, value in raw["metric"].items())),
        points=tuple((at_s, value) for at_s, value in points if math.isfinite(value)),
    )


def _texts(raw: object) -> Iterable[str]:
    return map(str, raw) if isinstance(raw, list) else ()


def rate_query(name: str, matchers: Mapping[str, str], *, window_s: float = RATE_WINDOW_S) -> str:
    """Summed rate of a vLLM counter under either spelling; `matchers` are regexes by label."""
    inside = ",".join(f'{label}=~"{_quoted(regex)}"' for label, regex in matchers.items())
    window = f"{window_s:.0f}s"
    return f"sum(rate(vllm:{name}{{{inside}}}[{window}]) or rate(vllm_{name}{{{inside}}}[{window}]))"


def demand_query(namespace: str, pod_regex: str, *, window_s: float = RATE_WINDOW_S) -> str:
    """Tokens per second, prompt and generation, that the pods of one service took: for back-fill."""
    matchers = {"namespace": _literal(namespace), "pod": pod_regex}
    prompt, generation = (
        rate_query(name, matchers, window_s=window_s) for name in ("prompt_tokens_total", "generation_tokens_total")
    )
    return f"{prompt} + {generation}"


def _literal(text: str) -> str:
    """A regex that matches just this text; Kubernetes names hold letters, digits, - and dots only."""
    return text.replace(".", "[.]")


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
