"""Client certificates, tokens and the server's own certificate that run out on a real API server."""

import base64
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from autoscaler.permissions import NAMESPACE, SERVICE_ACCOUNT
from simulations.cluster.api import Resource

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(240)]

REQUESTS_PER_S_MAX = 10.0
GOOD_FOR_S = 25.0  # long enough to enrol a service and to scale it once
LEEWAY_S = 60.0  # that the API server gives a token beyond its time (go-jose's default)
BAD_S = 12.0
USER = f"system:serviceaccount:{NAMESPACE}:{SERVICE_ACCOUNT}"
ISSUER = "https://kubernetes.default.svc"
SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


def home() -> Path:
    return Path(os.environ["WARMTIDE_PLANE_HOME"])


def pem(part: Any) -> bytes:
    return bytes(part.bytes())


class ClientCertificate:
    """Of the controller's account, in files that its kubeconfig names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        read = [(home() / name).read_bytes() for name in ("clients.crt", "clients.key")]
        self._authority = trustme.CA.from_pem(*read)

    def write(self, good_for_s: float) -> None:
        """A new one in place of the old one, as a renewal does it."""
        until = datetime.now(UTC) + timedelta(seconds=good_for_s)
        issued = self._authority.issue_cert("controller.example.org", common_name=USER, not_after=until)
        (self._folder / "client.crt").write_bytes(pem(issued.cert_chain_pems[0]))
        (self._folder / "client.key").write_bytes(pem(issued.private_key_pem))

    @property
    def user(self) -> dict[str, str]:
        """As a kubeconfig has it."""
        return {
            "client-certificate": str(self._folder / "client.crt"),
            "client-key": str(self._folder / "client.key"),
        }


async def token(town, good_for_s: float) -> str:
    """As the API server signs them, but for less than the ten minutes that it gives at least."""
    account = await town.api.get(SERVICE_ACCOUNTS, NAMESPACE, SERVICE_ACCOUNT)
    now_s = int(town.clock.now_s())
    names = {"name": SERVICE_ACCOUNT, "uid": account["metadata"]["uid"]}
    claims = {
        "iss": ISSUER,
        "aud": [ISSUER],
        "sub": USER,
        "iat": now_s - 2 * int(LEEWAY_S),
        "nbf": now_s - 2 * int(LEEWAY_S),
        "exp": now_s + int(good_for_s - LEEWAY_S),
        "kubernetes.io": {"namespace": NAMESPACE, "serviceaccount": names},
    }
    key = serialization.load_pem_private_key((home() / "sa.key").read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey)
    text = b".".join(
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "RS256"}, claims)
    )
    signed = key.sign(text, padding.PKCS1v15(), hashes.SHA256())
    return (text + b"." + base64.urlsafe_b64encode(signed).rstrip(b"=")).decode()


async def without_access(town, controller) -> None:
    """Load comes while nothing is believed: nothing is written, nobody storms."""
    await town.until(lambda: controller.metric("warmtide_api_requests_total", code="401"), within_s=60)
    town.crowd.wanted = 14
    requests_per_s = await town.rate(controller, BAD_S)

    print(f"expired: {requests_per_s:.1f} requests/s, replicas {town.seen}")
    assert requests_per_s <= REQUESTS_PER_S_MAX


async def check_all_is_well(town, controller) -> None:
    await town.check_only_grew()
    assert controller.is_alive
    assert "Traceback" not in controller.log


async def test_a_client_certificate_that_ran_out_is_read_again_when_it_was_renewed(town) -> None:
    certificate = ClientCertificate(town.folder)
    certificate.write(GOOD_FOR_S)
    async with town.controller(user=certificate.user) as controller:
        await town.enrol(steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        await without_access(town, controller)
        certificate.write(3600.0)
        await town.until_size(4, within_s=90)

        await check_all_is_well(town, controller)


async def test_a_token_that_ran_out_is_read_again_when_it_was_rotated(town) -> None:
    async with town.controller(token=await token(town, GOOD_FOR_S)) as controller:
        await town.enrol(steady=True)
        town.crowd.wanted = 5
        await town.until_size(2)
        await without_access(town, controller)
        controller.token_file.write_text(await token(town, 3600.0), encoding="utf-8")
        await town.until_size(4, within_s=90)

        await check_all_is_well(town, controller)


async def test_a_server_whose_certificate_ran_out_is_not_believed_until_it_has_a_new_one(town) -> None:
    """Its administrator forgot it, as happens once a year; a restart of the server makes every client look."""
    authority, files = trustme.CA(), [home() / "certs" / f"apiserver.{kind}" for kind in ("crt", "key")]
    before = [file.read_bytes() for file in files]

    def serve_with(good_for: timedelta) -> None:
        until = datetime.now(UTC) + good_for
        issued = authority.issue_cert("127.0.0.1", not_before=until - timedelta(days=30), not_after=until)
        files[1].write_bytes(pem(issued.private_key_pem))
        files[0].write_bytes(pem(issued.cert_chain_pems[0]))

    (town.folder / "authority.crt").write_bytes(pem(authority.cert_pem))
    await town.enrol(steady=True)
    await town.until_size(1)
    try:
        serve_with(timedelta(days=1))
        await restart(town)
        async with town.controller(authority=town.folder / "authority.crt") as controller:
            town.crowd.wanted = 5
            await town.until_size(2)
            serve_with(-timedelta(minutes=5))
            await restart(town)
            town.crowd.wanted = 14
            requests_per_s = await town.rate(controller, BAD_S)
            while_expired = town.seen[-1]
            serve_with(timedelta(days=1))
            await restart(town)
            await town.until_size(4, within_s=90)

            print(f"server's certificate expired: {requests_per_s:.1f} requests/s, replicas {town.seen}")
            assert while_expired == 2
            assert "certificate has expired" in controller.log
            assert requests_per_s <= REQUESTS_PER_S_MAX
            await check_all_is_well(town, controller)
    finally:
        for file, content in zip(files, before, strict=True):
            file.write_bytes(content)
        await restart(town)


async def restart(town) -> None:
    """The API server, which reads its certificate at its start.

    The controller manager begins anew, as one that elects its leader does: with each restart of its server client-go
    waits longer, up to a minute, before it looks again, and what a test waits for would be that.
    """
    with town.plane.dead("apiserver"):
        await town.clock.sleep(1.0)
    await town.until(town.is_served)
    town.plane.kill("kube-controller-manager")
