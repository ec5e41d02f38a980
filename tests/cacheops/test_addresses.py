"""Where a tenant's URI and anybody's redirect may lead: nowhere inside, and never with a credential."""

import ipaddress
import ssl
from collections.abc import Iterator
from contextlib import closing

import pytest
import trustme

from cacheops.addresses import AddressRules, Origin, checked_addresses, is_public, origin_of, redacted
from cacheops.errors import InvalidRequestError, SourceUnavailableError
from cacheops.transport import HttpRanges, Request
from metrics.clock import WallClock
from simulations.origin import Fault, serving
from simulations.origin import Origin as FakeOrigin

LOOPBACK = AddressRules(hosts=frozenset({"127.0.0.1", "localhost"}))
SECRET = {"Authorization": "Bearer hf_secret"}


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00:ec2::254", "ff02::1"),
        *("::ffff:169.254.169.254", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a9fe:a9fe"),
    ],
)
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_outside_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "url", ["https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://[::1]/", "https://localhost/"]
)
def test_no_spelling_of_loopback_passes(url: str) -> None:
    with pytest.raises((InvalidRequestError, SourceUnavailableError)):
        checked_addresses(origin_of(url), AddressRules())


def test_an_administrator_may_allow_a_host_a_port_or_a_network() -> None:
    https = Origin("https", "127.0.0.1", 443)

    for rules in (
        AddressRules(hosts=frozenset({"127.0.0.1"})),
        AddressRules(hosts=frozenset({"127.0.0.1:443"})),
        AddressRules(networks=(ipaddress.ip_network("127.0.0.0/8"),)),
    ):
        assert checked_addresses(https, rules) == ["127.0.0.1"]
    with pytest.raises(InvalidRequestError):
        checked_addresses(https, AddressRules(hosts=frozenset({"127.0.0.1:444"})))


def test_plain_http_needs_a_named_host_not_only_a_network() -> None:
    with pytest.raises(InvalidRequestError, match="plain http"):
        checked_addresses(
            Origin("http", "127.0.0.1", 80), AddressRules(networks=(ipaddress.ip_network("127.0.0.0/8"),))
        )


@pytest.mark.parametrize(
    "url", ["ftp://h/x", "https:///x", "https://u:p@h/x", "https://h:99999/", "gopher://h", "https://h/" + "x" * 9000]
)
def test_only_plain_web_addresses_are_fetched(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        origin_of(url)


def test_signatures_never_reach_a_message() -> None:
    assert redacted("https://u:p@host/x?X-Amz-Signature=secret#f") == "https://host/x"


def fetch(url: str, rules: AddressRules, tls: ssl.SSLContext | None = None) -> bytes:
    with closing(HttpRanges(rules, WallClock(), stall_s=5.0, tls=tls)) as ranges:
        stream = ranges.get(Request(url=url, secret_headers=SECRET))
        with closing(stream):
            return stream.read_text(1000).encode()


@pytest.mark.parametrize(
    "target",
    ["http://169.254.169.254/latest/meta-data", "https://127.0.0.1:1/", "http://10.0.0.1/", "file:///etc/passwd"],
)
def test_a_redirect_inside_is_not_followed(origin: FakeOrigin, target: str) -> None:
    origin.always["/x"] = Fault(status=302, headers={"Location": target})
    only_it = AddressRules(hosts=frozenset({origin.url.removeprefix("http://")}))

    with pytest.raises(InvalidRequestError):
        fetch(f"{origin.url}/x", only_it)


def test_a_token_stays_with_its_own_origin(origin: FakeOrigin) -> None:
    with serving(FakeOrigin()) as other:
        other.add("/y", b"bytes")
        origin.always["/x"] = Fault(status=302, headers={"Location": f"{other.url}/y"})

        assert fetch(f"{origin.url}/x", LOOPBACK) == b"bytes"

        assert origin.seen[0][2]["Authorization"] == SECRET["Authorization"]
        assert all("Authorization" not in headers for _, _, headers in other.seen)


def test_a_redirect_on_the_same_origin_keeps_the_token(origin: FakeOrigin) -> None:
    origin.add("/y", b"bytes")
    origin.always["/x"] = Fault(status=307, headers={"Location": "/y"})

    assert fetch(f"{origin.url}/x", LOOPBACK) == b"bytes"

    assert all(headers["Authorization"] == SECRET["Authorization"] for _, _, headers in origin.seen)


def test_a_redirect_loop_ends(origin: FakeOrigin) -> None:
    origin.always["/x"] = Fault(status=302, headers={"Location": "/x"})

    with pytest.raises(SourceUnavailableError, match="redirects"):
        fetch(f"{origin.url}/x", LOOPBACK)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[FakeOrigin]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with serving(FakeOrigin(), tls) as made:
        made.add("/y", b"bytes")
        yield made


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    tls = ssl.create_default_context()
    authority.configure_trust(tls)
    return tls


def test_tls_is_verified(secure: FakeOrigin, authority: trustme.CA) -> None:
    assert fetch(f"{secure.url}/y", LOOPBACK, trusting(authority)) == b"bytes"

    with pytest.raises(SourceUnavailableError, match="TLS"):
        fetch(f"{secure.url}/y", LOOPBACK)


def test_a_redirect_from_https_to_http_is_refused(
    secure: FakeOrigin, authority: trustme.CA, origin: FakeOrigin
) -> None:
    origin.add("/y", b"bytes")
    secure.always["/x"] = Fault(status=302, headers={"Location": f"{origin.url}/y"})

    with pytest.raises(InvalidRequestError, match="https to http"):
        fetch(f"{secure.url}/x", LOOPBACK, trusting(authority))
    assert origin.seen == []
