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
        *("::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::a9fe:a9fe", "2001:0:7f00:1::", "fec0::1", "2001:db8::1"),
        *("169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "198.18.0.1", "240.0.0.1", "192.0.2.1"),
    ],
)
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_addresses_outside_are_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


SPELLINGS = {
    "plain": "127.0.0.1",
    "a decimal number": "2130706433",
    "a hexadecimal number": "0x7f000001",
    "hexadecimal parts": "0x7f.1",
    "octal parts": "0177.0.0.1",
    "short": "127.1",
    "nothing": "0",
    "a name": "localhost",
    "IPv6": "[::1]",
    "any IPv6": "[::]",
    "mapped": "[::ffff:127.0.0.1]",
    "mapped in hexadecimal": "[::ffff:7f00:1]",
    "compatible": "[::127.0.0.1]",
    "translated": "[64:ff9b::127.0.0.1]",
    "6to4": "[2002:7f00:1::]",
    "metadata in decimal": "2852039166",
    "metadata in hexadecimal": "0xa9fea9fe",
    "metadata in three parts": "169.254.43518",
    "metadata, mapped": "[::ffff:a9fe:a9fe]",
    "metadata of IPv6": "[fd00:ec2::254]",
    "circled digits": "\u2460\u2461\u2466.0.0.1",
    "ideographic dots": "127\u30020\u30020\u30021",
}


@pytest.mark.parametrize("host", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_no_spelling_of_an_address_inside_passes(host: str) -> None:
    with pytest.raises(InvalidRequestError, match="not public"):
        checked_addresses(origin_of(f"https://{host}/"), AddressRules())


@pytest.mark.parametrize("host", SPELLINGS.values(), ids=SPELLINGS.keys())
def test_no_redirect_to_an_address_inside_is_followed_in_any_spelling(origin: FakeOrigin, host: str) -> None:
    origin.always["/x"] = Fault(status=302, headers={"Location": f"https://{host}/latest".encode().decode("latin-1")})
    only_it = AddressRules(hosts=frozenset({origin.url.removeprefix("http://")}))

    with pytest.raises((InvalidRequestError, SourceUnavailableError)) as caught:
        fetch(f"{origin.url}/x", only_it)
    assert "refused" not in str(caught.value)  # by the guard, not by a closed port
    assert len(origin.seen) == 1


class Names:
    """A DNS whose answers change: the first is for the check, the second would be for the connection."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


HERE_ONLY = (ipaddress.ip_network("127.0.0.1/32"),)


def test_a_name_that_answers_otherwise_a_moment_later_is_connected_where_it_was_judged(
    secure: FakeOrigin, authority: trustme.CA
) -> None:
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    rules = AddressRules(networks=HERE_ONLY, lookup=names)
    url = f"https://rebind.test:{secure.url.rpartition(':')[2]}/y"

    assert fetch(url, rules, trusting(authority)) == b"bytes"
    assert names.asked == 1

    with pytest.raises(InvalidRequestError, match=r"127\.0\.0\.2 is not public"):
        fetch(url, rules, trusting(authority))


def test_one_address_inside_among_others_refuses_the_name() -> None:
    rules = AddressRules(lookup=Names(["8.8.8.8", "169.254.169.254"]))

    with pytest.raises(InvalidRequestError, match=r"169\.254\.169\.254"):
        checked_addresses(Origin("https", "rebind.test", 443), rules)


def test_the_hubs_name_may_not_turn_inside_after_a_redirect(origin: FakeOrigin) -> None:
    names = Names(["10.0.0.1"])
    origin.always["/x"] = Fault(status=302, headers={"Location": "https://cdn.test/y"})
    only_it = AddressRules(hosts=frozenset({"127.0.0.1"}), lookup=lambda host, port: names_of(host, port, names))

    with pytest.raises(InvalidRequestError, match=r"cdn\.test:443: address 10\.0\.0\.1"):
        fetch(f"{origin.url}/x", only_it)


def names_of(host: str, port: int, others: Names) -> list[str]:
    return [host] if host == "127.0.0.1" else others(host, port)


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
    [
        *("http://169.254.169.254/latest/meta-data", "https://127.0.0.1:1/", "http://10.0.0.1/", "file:///etc/passwd"),
        *("https://u:p@example.com/", "//169.254.169.254/x", "gopher://127.0.0.1/", "https://[::ffff:10.0.0.1]/"),
    ],
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


def test_a_token_does_not_come_back_by_way_of_another_host_that_sends_it_elsewhere(origin: FakeOrigin) -> None:
    with serving(FakeOrigin()) as other, serving(FakeOrigin()) as third:
        third.add("/z", b"bytes")
        origin.always["/x"] = Fault(status=302, headers={"Location": f"{other.url}/y"})
        other.always["/y"] = Fault(status=302, headers={"Location": f"{third.url}/z"})

        assert fetch(f"{origin.url}/x", LOOPBACK) == b"bytes"

        assert all("Authorization" not in headers for made in (other, third) for _, _, headers in made.seen)


def test_another_name_or_port_of_the_same_machine_is_another_origin(origin: FakeOrigin) -> None:
    origin.add("/y", b"bytes")
    port = origin.url.rpartition(":")[2]
    origin.always["/x"] = Fault(status=302, headers={"Location": f"http://localhost:{port}/y"})

    assert fetch(f"{origin.url}/x", LOOPBACK) == b"bytes"

    assert ["Authorization" in headers for _, _, headers in origin.seen] == [True, False]


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
    authority.issue_cert("127.0.0.1", "rebind.test").configure_cert(tls)
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
