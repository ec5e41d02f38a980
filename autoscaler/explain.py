"""`warmtide why NAMESPACE/NAME`: the last decision about a service, from its ScaledService."""

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from autoscaler.errors import (
    ApiFailure,
    AutoscalerError,
    Forbidden,
    NotEnrolledError,
    NotFound,
    Unauthorized,
    Unreachable,
    shorten,
)
from autoscaler.explanation import as_json, explain
from autoscaler.kube.client import KubeClient
from autoscaler.kube.resources import SCALED_SERVICES, Object
from autoscaler.settings import ANNOTATION
from metrics.clock import WallClock

_DNS_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")
# A list of names that still fits a terminal.
NAMES_SHOWN = 20
_HOW_TO_ENROL = (
    f"To enrol a service, annotate its InferenceService or Deployment with {ANNOTATION}: POLICY,\n"
    "or write a ScaledService that names it (manifests/samples has both)."
)


def main(arguments: Sequence[str]) -> int:
    """0: explained. 1: there is nothing to explain, or the cluster does not answer. 2: called wrongly."""
    options = _parser().parse_args(arguments)
    namespace, name = options.service
    try:
        found = asyncio.run(_read(options.kubeconfig, options.context, namespace, name))
    except AutoscalerError as exc:
        sys.stderr.write(f"{complaint(exc, 'get and list scaledservices.warmtide.dev')}\n")
        return 1
    if options.output == "json":
        json.dump(as_json(found), sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(explain(found, WallClock().now_s()))
    return 0


async def _read(kubeconfig: Path | None, context: str | None, namespace: str, name: str) -> Object:
    async with KubeClient.from_config(kubeconfig, context) as client:
        return await read(client, namespace, name)


async def read(client: KubeClient, namespace: str, name: str) -> Object:
    """The ScaledService; NotEnrolledError when there is none."""
    try:
        return await client.get(SCALED_SERVICES.path(namespace, name))
    except NotFound:
        pass
    try:
        enrolled = await client.list(SCALED_SERVICES.path())
    except NotFound as exc:
        message = "This cluster has no ScaledServices: install Warmtide's CRDs (kubectl apply -k manifests)."
        raise NotEnrolledError(message) from exc
    except Forbidden:
        enrolled = await client.list(SCALED_SERVICES.path(namespace))
    names = sorted(f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in enrolled)
    raise NotEnrolledError(f"No service {namespace}/{name} is enrolled. {_listed(names)}\n{_HOW_TO_ENROL}")


def _listed(names: Sequence[str]) -> str:
    if not names:
        return "No service is enrolled yet."
    more = f"\n  and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return "Enrolled are:\n" + "\n".join(f"  {name}" for name in names[:NAMES_SHOWN]) + more


def complaint(failure: AutoscalerError, wanted: str) -> str:
    """What went wrong, for someone who just wants an answer. `wanted` says what they may need to be allowed."""
    said = f"({shorten(str(failure), 300)})"
    match failure:
        case Unauthorized():
            return f"The cluster does not accept your credentials: log in again. {said}"
        case Forbidden():
            return f"You may not {wanted}; ask whoever grants permissions for that. {said}"
        case Unreachable():
            return f"The cluster does not answer; is the kubeconfig right? {said}"
        case ApiFailure():
            return f"The cluster refused to say. {said}"
    return str(failure)  # a message that was written for people


def _service(text: str) -> tuple[str, str]:
    """Namespace and name; a name alone is in namespace default."""
    namespace, slash, name = text.rpartition("/")
    namespace = namespace if slash else "default"
    if not (_DNS_NAME.fullmatch(namespace) and _DNS_NAME.fullmatch(name)):
        raise argparse.ArgumentTypeError(f"{shorten(text)} is not NAMESPACE/NAME")
    return namespace, name


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide why", description="Why a service has its replicas, and what would change that."
    )
    parser.add_argument(
        "service", type=_service, metavar="NAMESPACE/NAME", help="the service; NAME alone is in namespace default"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print it")
    add_cluster_options(parser)
    return parser


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Which cluster to ask."""
    parser.add_argument("--kubeconfig", type=Path, help="kubeconfig file; default: $KUBECONFIG or ~/.kube/config")
    parser.add_argument("--context", help="context of the kubeconfig; default: the current one")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
