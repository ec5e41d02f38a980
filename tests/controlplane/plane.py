"""A real Kubernetes control plane on loopback: `python tests/controlplane/plane.py -- COMMAND …`.

Starts etcd and kube-apiserver (with `--controllers` also the controller manager and the scheduler) on
free ports, sets KUBECONFIG for the command, and stops everything when the command ends. Standard
library only; the programs come from `build.sh`.

A program that dies is started again at once, as a kubelet does with a static pod. For tests of that,
WARMTIDE_PLANE_HOME names a folder with NAME.pid of each program; while NAME.hold exists there, a dead
program stays dead. WARMTIDE_PLANE_ETCD is etcd's address. For tests of credentials the folder also has
`clients.crt` and `clients.key`, whom the API server believes client certificates, `sa.key`, which signs
tokens, and `certs/apiserver.crt` and `.key`, the server's own, which it reads when it starts.
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
LOOK_S = 0.1
ADMIN_TOKEN = "plane-admin"  # a throw-away server on loopback


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Program:
    """A child process that is started again when it dies, and ends with us."""

    def __init__(self, name: str, command: list[str], home: Path) -> None:
        self.log = home / f"{name}.log"
        self._command = command
        self._pid_file = home / f"{name}.pid"
        self._hold_file = home / f"{name}.hold"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as out:
            # In a session of its own: Ctrl-C is for the command, which needs the plane until it has cleaned up.
            self._child = subprocess.Popen(self._command, stdout=out, stderr=out, start_new_session=True)
        self._pid_file.write_text(f"{self._child.pid}\n", encoding="utf-8")

    def is_dead(self) -> bool:
        return self._child.poll() is not None

    def keep_alive(self) -> None:
        if self.is_dead() and not self._hold_file.exists():
            self.start()

    def stop(self) -> None:
        self._child.send_signal(signal.SIGTERM)
        try:
            self._child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def wait_until_ready(url: str, program: Program) -> None:
    """Return when `url` answers 200; raise with the log's end when the program dies or takes too long."""
    trust_anything = ssl.create_default_context()
    trust_anything.check_hostname, trust_anything.verify_mode = False, ssl.CERT_NONE
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {ADMIN_TOKEN}"})
    deadline_s = time.monotonic() + READY_S
    while time.monotonic() < deadline_s and not program.is_dead():
        try:
            with urllib.request.urlopen(request, context=trust_anything, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(LOOK_S)
    raise RuntimeError(f"{url} did not get ready:\n" + program.log.read_text(errors="replace")[-2000:])


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
        f"--client-ca-file={home / 'clients.crt'}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={home / 'sa.key'}",
        f"--service-account-signing-key-file={home / 'sa.key'}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
    ]


def make_authority(key: Path, certificate: Path) -> None:
    """For client certificates, good for a day."""
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=plane"]
    subprocess.run([*request, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)


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
def plane(
    binaries: Path, *, controllers: bool, flags: dict[str, list[str]]
) -> Iterator[tuple[list[Program], dict[str, str]]]:
    """The running control plane: its programs, and the environment that tells of it."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="warmtide-plane-")))
        programs: list[Program] = []

        def start(name: str, command: list[str]) -> Program:
            programs.append(Program(name, command + flags.get(name, []), home))
            stack.callback(programs[-1].stop)
            return programs[-1]

        (home / "tokens.csv").write_text(f'{ADMIN_TOKEN},admin,admin,"system:masters"\n', encoding="utf-8")
        subprocess.run(["openssl", "genrsa", "-out", str(home / "sa.key"), "2048"], check=True, capture_output=True)
        make_authority(home / "clients.key", home / "clients.crt")
        client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
        wait_until_ready(f"{client}/health", start("etcd", etcd_command(binaries, home / "data", client, peer)))
        port = free_port()
        apiserver = start("apiserver", apiserver_command(binaries, home, client, port))
        wait_until_ready(f"https://127.0.0.1:{port}/readyz", apiserver)
        write_kubeconfig(home / "kubeconfig", port)
        for name, command in controller_commands(binaries, home) if controllers else ():
            start(name, command)
        told = {"KUBECONFIG": str(home / "kubeconfig"), "WARMTIDE_PLANE_HOME": str(home), "WARMTIDE_PLANE_ETCD": client}
        yield programs, told


def run(command: list[str], programs: list[Program], environment: dict[str, str]) -> int:
    """The command, with the programs kept alive until it ends."""
    with subprocess.Popen(command, env=os.environ | environment) as child:
        try:
            while child.poll() is None:
                for program in programs:
                    program.keep_alive()
                time.sleep(LOOK_S)
        finally:
            child.terminate()  # nothing is sent to one that has ended
    return child.returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--controllers", action="store_true", help="also the controller manager and the scheduler")
    parser.add_argument(
        "--flag", action="append", default=[], metavar="PROGRAM:FLAG", help="one more flag for one program"
    )
    parser.add_argument("command", nargs="+", help="what to run with KUBECONFIG set")
    args = parser.parse_args()
    build = subprocess.run([str(Path(__file__).parent / "build.sh")], stdout=subprocess.PIPE, text=True, check=False)
    if build.returncode != 0:
        return build.returncode
    flags: dict[str, list[str]] = {}
    for name, _, flag in (each.partition(":") for each in args.flag):
        flags.setdefault(name, []).append(flag)
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with plane(Path(build.stdout.strip()), controllers=args.controllers, flags=flags) as (programs, environment):
        return run(args.command, programs, environment)


if __name__ == "__main__":
    sys.exit(main())
