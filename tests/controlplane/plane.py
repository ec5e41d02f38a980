"""A real Kubernetes control plane on loopback: `python tests/controlplane/plane.py -- COMMAND …`.

Starts etcd and kube-apiserver (with `--controllers` also the controller manager and the scheduler) on
free ports, sets KUBECONFIG for the command, and stops everything when the command ends. Standard
library only; the programs come from `build.sh`.
"""

import argparse
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

READY_S = 120.0  # a busy two-core machine needs about 5 s; past two minutes it is broken
STOP_S = 10.0
ADMIN_TOKEN = "plane-admin"  # a throw-away server on loopback


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A child that ends with us."""
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_until_ready(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    """Return when `url` answers 200; raise with the log's end when the child dies or takes too long."""
    trust_anything = ssl.create_default_context()
    trust_anything.check_hostname, trust_anything.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and child.poll() is None:
        try:
            with urllib.request.urlopen(request, context=trust_anything, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise RuntimeError(f"{url} did not get ready:\n" + log.read_text(errors="replace")[-2000:])


def etcd_command(binaries: Path, data: Path, client: str, peer: str) -> list[str]:
    return [
        str(binaries / "etcd"),
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver_command(binaries: Path, home: Path, etcd: str, port: int) -> list[str]:
    return [
        str(binaries / "kube-apiserver"),
        f"--etcd-servers={etcd}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={home / 'certs'}",
        f"--token-auth-file={home / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={home / 'sa.key'}",
        f"--service-account-signing-key-file={home / 'sa.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
    ]


def write_kubeconfig(path: Path, port: int) -> None:
    """kubectl's configuration for the administrator; JSON is YAML."""
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "plane",
        "clusters": [{"name": "plane", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": ADMIN_TOKEN}}],
        "contexts": [{"name": "plane", "context": {"cluster": "plane", "user": "admin"}}],
    }
    path.write_text(json.dumps(config), encoding="utf-8")


def controller_commands(binaries: Path, home: Path) -> Iterator[tuple[str, list[str]]]:
    """The controller manager and the scheduler, without leader election and without request limits."""
    common = [
        f"--kubeconfig={home / 'kubeconfig'}",
        "--leader-elect=false",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]
    for program, extra in (
        ("kube-controller-manager", ["--controllers=*,-node-lifecycle-controller", "--secure-port=0"]),
        ("kube-scheduler", ["--secure-port=0"]),
    ):
        yield program, [str(binaries / program), *common, *extra]


@contextmanager
def plane(binaries: Path, *, controllers: bool) -> Iterator[Path]:
    """The running control plane; gives the kubeconfig's path."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warmtide-plane-")))
        (home / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n', encoding="utf-8")
        subprocess.run(["openssl", "genrsa", "-out", str(home / "sa.key"), "2048"], check=True, capture_output=True)
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        etcd = stack.enter_context(process(etcd_command(binaries, home / "data", client, peer), home / "etcd.log"))
        wait_until_ready(f"{client}/health", etcd, home / "etcd.log")
        port = free_port()
        command = apiserver_command(binaries, home, client, port)
        apiserver = stack.enter_context(process(command, home / "apiserver.log"))
        wait_until_ready(f"https://127.0.0.1:{port}/readyz", apiserver, home / "apiserver.log")
        write_kubeconfig(home / "kubeconfig", port)
        for name, command in controller_commands(binaries, home) if controllers else ():
            stack.enter_context(process(command, home / f"{name}.log"))
        yield home / "kubeconfig"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--controllers", action="store_true", help="also the controller manager and the scheduler")
    parser.add_argument("command", nargs="+", help="what to run with KUBECONFIG set")
    args = parser.parse_args()
    build = subprocess.run([str(Path(__file__).parent / "build.sh")], stdout=subprocess.PIPE, text=True, check=False)
    if build.returncode != 0:
        return build.returncode
    with plane(Path(build.stdout.strip()), controllers=args.controllers) as kubeconfig:
        return subprocess.run(args.command, env=os.environ | {"KUBECONFIG": str(kubeconfig)}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
