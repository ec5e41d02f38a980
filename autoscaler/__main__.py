"""`python -m autoscaler`: the controller process. Arguments, logging, signals; the parts are in `autoscaler.wiring`."""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from autoscaler.arguments import http_url, network_of, quantity_bytes

if TYPE_CHECKING:
    from autoscaler.caching.start import CacheOptions
    from autoscaler.wiring import Options

_SERVICE_ACCOUNT_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_HOME_NAMESPACE = "warmtide"
_AGENT_ROOT = "/var/lib/warmtide"  # as in manifests/components/node-agent


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. 0: stopped in good order; 1: died; 2: cannot be started like this."""
    arguments = _parser().parse_args(argv)
    _log_to_stderr(arguments.log_level, arguments.log_format)
    # Half a second and 70 MB of imports, which --help and a typing error need not wait for.
    from autoscaler.errors import BadSpecError
    from metrics.errors import TelemetryError

    try:
        asyncio.run(_run(arguments))
    except (BadSpecError, TelemetryError) as exc:
        print(f"warmtide controller: {exc}", file=sys.stderr)  # noqa: T201 - for the person who started it
        return 2
    return 0


async def _run(arguments: argparse.Namespace) -> None:
    from autoscaler.wiring import run

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    await run(_options(arguments), stop)


def _options(arguments: argparse.Namespace) -> "Options":
    from autoscaler.wiring import Options

    host, _, port = arguments.listen.rpartition(":")
    return Options(
        kubeconfig=arguments.kubeconfig,
        context=arguments.context,
        namespace=arguments.namespace,
        identity=arguments.identity,
        home_namespace=arguments.lease_namespace,
        listen_host=host.strip("[]"),
        listen_port=int(port),
        scrape_period_min_s=arguments.scrape_period,
        prometheus_url=arguments.prometheus_url,
        prometheus_token_file=arguments.prometheus_token_file,
        prometheus_ca_file=arguments.prometheus_ca_file,
        otlp_endpoint=arguments.otlp_endpoint,
        caches=_cache_options(arguments),
    )


def _cache_options(arguments: argparse.Namespace) -> "CacheOptions":
    from autoscaler.caching.start import CacheOptions
    from cacheops.addresses import AddressRules
    from cacheops.sources import settings_from_environment

    rules = AddressRules(hosts=frozenset(arguments.allow_host), networks=tuple(arguments.allow_network))
    return CacheOptions(
        sources=settings_from_environment(rules, local_files=False, claims=arguments.claims),
        quota_bytes=arguments.cache_quota,
        root=arguments.cache_root,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide controller",
        description="Scales the enrolled services of a cluster. Reads the pod's service account, or a kubeconfig.",
    )
    add = parser.add_argument
    add("--kubeconfig", type=Path, help="kubeconfig file (default: in-cluster, else KUBECONFIG or ~/.kube/config)")
    add("--context", help="context of the kubeconfig (default: its current one)")
    add("--namespace", help="watch this namespace only (default: all)")
    add("--identity", default=_identity(), help="name in the lease (default: host name and process id)")
    add("--lease-namespace", default=_home(), help="namespace of the lease and of default policies (default: ours)")
    add("--listen", default="127.0.0.1:8080", type=_address, metavar="HOST:PORT", help="/metrics, /healthz, /readyz")
    add("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    add("--log-format", default="text", choices=("text", "json"))
    add("--scrape-period", default=0.0, type=float, metavar="SECONDS", help="scrape no pod more often than this")
    add(
        "--prometheus-url",
        type=http_url,
        metavar="URL",
        help="Prometheus for upstream.query and past demand (default: none)",
    )
    add("--prometheus-token-file", type=Path, metavar="FILE", help="bearer token for it, read anew for each query")
    add("--prometheus-ca-file", type=Path, metavar="FILE", help="CA of its certificate (default: the system's)")
    add("--allow-host", action="append", default=[], metavar="HOST[:PORT]", help="a model source that is not public")
    network = "a network of model sources that is not public"
    add("--allow-network", action="append", default=[], type=network_of, metavar="CIDR", help=network)
    add("--claims", type=Path, metavar="DIR", help="where claims lie for pvc://NAME/path (default: /mnt/claims)")
    quota = "most that models take on a node that is in no LocalModelNodeGroup, such as 500Gi (default: watermarks)"
    add("--cache-quota", type=quantity_bytes, metavar="SIZE", help=quota)
    root = "the agents' folder on the nodes, for volumes over models (default: %(default)s)"
    add("--cache-root", default=_AGENT_ROOT, metavar="DIR", help=root)
    add("--otlp-endpoint", help="OTLP/HTTP receiver for traces and metrics (default: none)")
    return parser


def _address(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return text


def _identity() -> str:
    return f"{socket.gethostname()}-{os.getpid()}"


def _home() -> str:
    """POD_NAMESPACE, else the service account's namespace, else Warmtide's usual one."""
    if name := os.environ.get("POD_NAMESPACE"):
        return name
    try:
        return _SERVICE_ACCOUNT_NAMESPACE.read_text(encoding="utf-8").strip() or _HOME_NAMESPACE
    except OSError:
        return _HOME_NAMESPACE


def _log_to_stderr(level: str, style: str) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines() if style == "json" else logging.Formatter(_TEXT_LINE))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)


_TEXT_LINE = "%(asctime)s %(levelname).1s %(name)s: %(message)s"


class _JsonLines(logging.Formatter):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
