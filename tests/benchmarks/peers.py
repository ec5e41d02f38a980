"""KEDA 2.20 with a real Prometheus beside a real control plane: certificates, flags, processes, objects."""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import yaml
from figures import MissingPartError
from real_plane import CONTROL_PLANE, SPACE, Object, child, kubeconfig, require, until, until_served

from simulations.cluster.api import CRDS, HPAS, NAMESPACES, SCALED_OBJECTS, SERVICES, Resource
from simulations.cluster.http_api import HttpApi

API_SERVICES = Resource("apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False)
KEDA = "keda"
PROXY_USER = "front-proxy-client"
_DAYS = "2"


def binaries() -> Path:
    """The folder of KEDA's programs."""
    script = CONTROL_PLANE / "build_keda.sh"
    return Path(subprocess.run([script, "--where"], capture_output=True, text=True, check=True).stdout.strip())


def require_peers() -> None:
    """MissingPartError where KEDA or Prometheus is not here."""
    how = "`tests/controlplane/build_keda.sh` builds them (about 10 minutes, once)"
    require(binaries(), ["keda-operator", "keda-adapter"], how)
    if shutil.which("prometheus") is None:
        raise MissingPartError("prometheus not found on PATH: install Debian's package prometheus")


def write_certificates(folder: Path) -> None:
    """One authority, one certificate for KEDA's two programs, one by which the API server proxies to the adapter."""
    key = ("-newkey", "rsa:2048", "-nodes", "-days", _DAYS)
    authority = folder / "ca"
    _openssl("req", "-x509", *key, "-keyout", f"{authority}.key", "-out", f"{authority}.crt", "-subj", "/CN=bench-ca")
    for name, user in (("tls", "localhost"), ("proxy", PROXY_USER)):
        own = folder / name
        signed = ("-CA", f"{authority}.crt", "-CAkey", f"{authority}.key")
        names = ("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=CA:FALSE")
        files = ("-keyout", f"{own}.key", "-out", f"{own}.crt")
        _openssl("req", "-x509", *key, *signed, *files, "-subj", f"/CN={user}", *names)


def _openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def aggregation_flags(folder: Path) -> list[str]:
    """By which the API server proxies external.metrics.k8s.io to KEDA's adapter."""
    flags = {
        "requestheader-client-ca-file": folder / "ca.crt",
        "requestheader-allowed-names": PROXY_USER,
        "requestheader-username-headers": "X-Remote-User",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "proxy-client-cert-file": folder / "proxy.crt",
        "proxy-client-key-file": folder / "proxy.key",
    }
    return [f"apiserver:--{name}={value}" for name, value in flags.items()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@asynccontextmanager
async def keda(api: HttpApi, certificates: Path) -> AsyncIterator[None]:
    """KEDA's CRDs, operator and metrics adapter, as its own manifests start them but for the addresses."""
    module = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/kedacore/keda/v2"]
    where = await asyncio.to_thread(
        subprocess.run, module, cwd=CONTROL_PLANE / "keda", capture_output=True, text=True, check=True
    )
    for file in sorted((Path(where.stdout.strip()) / "config" / "crd" / "bases").glob("*.yaml")):
        await api.create(CRDS, yaml.safe_load(file.read_text(encoding="utf-8")))
    await until_served(api, SCALED_OBJECTS)
    await api.create(NAMESPACES, {"metadata": {"name": KEDA}})
    ports = [free_port() for _ in range(4)]
    os.environ |= {"POD_NAMESPACE": KEDA, "KEDA_CLUSTER_OBJECT_NAMESPACE": KEDA, "WATCH_NAMESPACE": ""}
    operator = [
        str(binaries() / "keda-operator"),
        f"--kubeconfig={kubeconfig()}",
        f"--cert-dir={certificates}",
        f"--metrics-service-bind-address=127.0.0.1:{ports[0]}",
        "--metrics-bind-address=0",
        "--health-probe-bind-address=0",
        "--enable-webhook-patching=false",
        "--enable-apiservice-patching=false",
    ]
    adapter = [
        str(binaries() / "keda-adapter"),
        *(f"--{each}kubeconfig={kubeconfig()}" for each in ("", "lister-", "authentication-", "authorization-")),
        "--bind-address=127.0.0.1",
        f"--secure-port={ports[1]}",
        f"--port={ports[2]}",
        f"--metrics-service-address=localhost:{ports[0]}",
        f"--cert-dir={certificates}",
        f"--client-ca-file={certificates / 'ca.crt'}",
        f"--tls-cert-file={certificates / 'tls.crt'}",
        f"--tls-private-key-file={certificates / 'tls.key'}",
    ]
    async with child("keda-operator", *operator), child("keda-adapter", *adapter):
        await _serve_external_metrics(api, ports[1])
        yield


async def _serve_external_metrics(api: HttpApi, port: int) -> None:
    """The API server finds the adapter by a Service's external name: endpoints may not be on loopback."""
    service = {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}
    await api.create(SERVICES, {"metadata": {"name": "adapter", "namespace": KEDA}, "spec": service})
    spec = {
        "service": {"name": "adapter", "namespace": KEDA, "port": port},
        "group": "external.metrics.k8s.io",
        "version": "v1beta1",
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    }
    await api.create(API_SERVICES, {"metadata": {"name": "v1beta1.external.metrics.k8s.io"}, "spec": spec})

    async def is_available() -> bool:
        found = await api.get(API_SERVICES, "", "v1beta1.external.metrics.k8s.io")
        conditions = (found.get("status") or {}).get("conditions") or ()
        return any(one["type"] == "Available" and one["status"] == "True" for one in conditions)

    await until(is_available)


@asynccontextmanager
async def prometheus(folder: Path, services: Sequence[str], pages_port: int, scrape_s: int) -> AsyncIterator[str]:
    """A real Prometheus that scrapes the pages; gives its address."""
    targets = [
        {"targets": [f"127.0.0.1:{pages_port}"], "labels": {"__metrics_path__": f"/metrics/{name}", "service": name}}
        for name in services
    ]
    job = {"job_name": "vllm", "scrape_timeout": "1s", "static_configs": targets}
    config = folder / f"prometheus-{scrape_s}.yml"
    config.write_text(yaml.safe_dump({"global": {"scrape_interval": f"{scrape_s}s"}, "scrape_configs": [job]}))
    address = f"127.0.0.1:{free_port()}"
    flags = (f"--storage.tsdb.path={folder / f'data-{scrape_s}'}", f"--web.listen-address={address}")
    async with child("prometheus", "prometheus", f"--config.file={config}", *flags, "--log.level=warn"):
        yield f"http://{address}"


def scaled_object(name: str, prometheus_url: str, threshold: int, polling_s: int | None) -> Object:
    """A queue per replica, as KEDA's users write it; None leaves the polling interval at its default."""
    trigger = {
        "type": "prometheus",
        "metadata": {
            "serverAddress": prometheus_url,
            "query": f'sum(vllm:num_requests_waiting{{service="{name}"}})',
            "threshold": str(threshold),
        },
    }
    spec: Object = {
        "scaleTargetRef": {"name": name},
        "minReplicaCount": 1,
        "maxReplicaCount": 10,
        "triggers": [trigger],
    }
    if polling_s is not None:
        spec["pollingInterval"] = polling_s
    return {
        "apiVersion": SCALED_OBJECTS.api_version,
        "kind": SCALED_OBJECTS.kind,
        "metadata": {"name": name, "namespace": SPACE},
        "spec": spec,
    }


async def until_active(api: HttpApi, count: int, within_s: float) -> None:
    """Every HPA of KEDA's has read its metric."""

    async def are_active() -> bool:
        conditions = [c for hpa in await api.list(HPAS, SPACE) for c in hpa.get("status", {}).get("conditions", ())]
        return sum(c["type"] == "ScalingActive" and c["status"] == "True" for c in conditions) >= count

    await until(are_active, within_s)
