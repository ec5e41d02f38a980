"""`warmtide check`: examines a cluster and says what to do about each thing that is wrong."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from autoscaler.arguments import http_url
from autoscaler.check_cluster import examine_cluster
from autoscaler.check_services import Instruments, examine_services
from autoscaler.errors import AutoscalerError
from autoscaler.explain import add_cluster_options, complaint
from autoscaler.findings import Finding, as_json, as_text, fail, failed
from autoscaler.kube.client import KubeClient
from autoscaler.permissions import NAMESPACE, SERVICE_ACCOUNT
from autoscaler.upstream import Source
from metrics.clock import Clock, WallClock
from metrics.scrape import Scraper


def main(arguments: Sequence[str]) -> int:
    """0: nothing is broken. 1: something is. 2: called wrongly."""
    options = _parser().parse_args(arguments)
    findings = asyncio.run(examine(options, WallClock()))
    if options.output == "json":
        json.dump(as_json(findings), sys.stdout, indent=2, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        sys.stdout.write(as_text(findings))
    return int(failed(findings))


async def examine(options: argparse.Namespace, clock: Clock) -> list[Finding]:
    """All findings; when the cluster stops answering, those until then and that."""
    findings: list[Finding] = []
    try:
        async with KubeClient.from_config(options.kubeconfig, options.context) as client, Scraper(clock) as scraper:
            cluster = examine_cluster(client, options.account, options.lease, clock.now_s())
            instruments = Instruments(client=client, pages=scraper, prometheus=_prometheus(options))
            services = examine_services(
                instruments, namespace=options.namespace, home=_home(options), now_s=clock.now_s()
            )
            async with aclosing(cluster), aclosing(services):
                findings += [finding async for finding in cluster]
                findings += [finding async for finding in services]
    except AutoscalerError as exc:
        findings.append(fail("API server", complaint(exc, "read this cluster"), "check the kubeconfig and its context"))
    return findings


def _prometheus(options: argparse.Namespace) -> Source | None:
    if options.prometheus_url is None:
        return None
    # Half a second of imports that only who has a Prometheus needs.
    from metrics.prometheus import History, HistoryConfig

    return History(
        HistoryConfig(
            url=options.prometheus_url,
            bearer_token_file=options.prometheus_token_file,
            ca_file=options.prometheus_ca_file,
        )
    )


def _home(options: argparse.Namespace) -> str:
    """The controller's namespace: policies there are defaults for all."""
    return str(options.account).partition("/")[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="warmtide check", description="Examine a cluster: what is wrong, and what to do about it."
    )
    account, lease = f"{NAMESPACE}/{SERVICE_ACCOUNT}", f"{NAMESPACE}/{SERVICE_ACCOUNT}"
    parser.add_argument("-n", "--namespace", help="services of one namespace only; default: all")
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text", help="how to print it")
    parser.add_argument("--account", default=account, metavar="NAMESPACE/NAME", help=f"controller's; default {account}")
    parser.add_argument("--lease", default=lease, metavar="NAMESPACE/NAME", help=f"controller's; default {lease}")
    tries = "the controller's Prometheus: tries each upstream.query"
    parser.add_argument("--prometheus-url", type=http_url, metavar="URL", help=tries)
    parser.add_argument("--prometheus-token-file", type=Path, metavar="FILE", help="bearer token for it")
    parser.add_argument("--prometheus-ca-file", type=Path, metavar="FILE", help="CA of its certificate")
    add_cluster_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
