"""Where a pod's metrics page is, read off the pod itself.

The order is KServe's own: the runtime's annotation on the pod, then the server container's ports, then its
arguments, then the default. `prometheus.io/port` counts only when the pod really exposes that port: KServe's
webhook writes queue-proxy ports there (9088, 9091) that do not exist in Standard mode.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest

from autoscaler.kube.resources import Object

DEFAULT_PORT = 8080  # of every KServe serving runtime; vLLM's own is 8000, but then it is in the ports or arguments
DEFAULT_PATH = "/metrics"
_SERVER_CONTAINER = "kserve-container"
_PORT_ARGUMENT = re.compile(r"--(?:http[_-]port|port)(?:[= ](\d{1,5}))?$")
_PATH = re.compile(r"/[-A-Za-z0-9._~/]{0,255}$")


@dataclass(frozen=True, slots=True)
class MetricsAddress:
    """Port and path of a metrics page, and how they were found."""

    port: int
    path: str
    found_by: str


def metrics_address(pod: Object) -> MetricsAddress:
    """The metrics page that a pod announces."""
    annotations: Mapping[str, str] = pod["metadata"].get("annotations") or {}
    spec = pod.get("spec") or {}
    path = _path(annotations.get("prometheus.kserve.io/path") or annotations.get("prometheus.io/path"))
    if port := _port(annotations.get("prometheus.kserve.io/port")):
        return MetricsAddress(port, path, "prometheus.kserve.io/port")
    container = _server(spec)
    exposed = [p for c in spec.get("containers") or () for p in c.get("ports") or ()]
    announced = _port(annotations.get("prometheus.io/port"))
    if announced and any(p.get("containerPort") == announced for p in exposed):
        return MetricsAddress(announced, path, "prometheus.io/port")
    if port := _named_port(container):
        return MetricsAddress(port, path, "container port")
    if port := _argument_port(container):
        return MetricsAddress(port, path, "container argument")
    return MetricsAddress(DEFAULT_PORT, path, "default")


def _server(spec: Object) -> Object:
    containers = spec.get("containers") or [{}]
    return next((c for c in containers if c.get("name") == _SERVER_CONTAINER), containers[0])


def _named_port(container: Object) -> int | None:
    """A port named http* or metrics, else the first."""
    ports = [p for p in container.get("ports") or () if p.get("protocol", "TCP") == "TCP"]
    named = [p for p in ports if str(p.get("name", "")).startswith("http") or p.get("name") == "metrics"]
    return next((p["containerPort"] for p in named or ports if p.get("containerPort")), None)


def _argument_port(container: Object) -> int | None:
    """`--port 8000`, `--port=8000`, `--http_port 8080`, also within one shell line."""
    words = [
        w for line in [*(container.get("command") or ()), *(container.get("args") or ())] for w in str(line).split()
    ]
    for word, following in zip_longest(words, words[1:], fillvalue=""):
        if found := _PORT_ARGUMENT.match(word):
            return _port(found.group(1) or following)
    return None


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535 else None


def _path(text: str | None) -> str:
    return text if text and _PATH.match(text) else DEFAULT_PATH
