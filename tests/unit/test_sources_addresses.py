from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.error import SourceError
from aero.sources.addresses import public_addresses, why_refused
from aero.sources.connections import shown
from aero.sources.retry import TryAgainError

REFUSED = {
    "0.0.0.0": "unspecified",
    "10.1.2.3": "private",
    "100.64.0.1": "reserved",
    "127.0.0.1": "loopback",
    "127.255.0.3": "loopback",
    "169.254.169.254": "link-local",
    "172.16.0.1": "private",
    "192.168.1.1": "private",
    "198.18.0.1": "private",
    "224.0.0.1": "multicast",
    "239.255.255.250": "multicast",
    "240.0.0.1": "private",
    "255.255.255.255": "private",
    "::": "unspecified",
    "::1": "loopback",
    "::7f00:1": "reserved",
    "::ffff:127.0.0.1": "loopback",
    "::ffff:169.254.169.254": "link-local",
    "2002:7f00:1::": "loopback",
    "2002:c0a8:101::1": "private",
    "64:ff9b::10.0.0.1": "private",
    "64:ff9b::7f00:1": "loopback",
    "64:ff9b:1::a00:1": None,
    "fc00::1": "private",
    "fd12:3456::1": "private",
    "fe80::1": "link-local",
    "fe80::1%lo": "link-local",
    "fec0::1": "private",
    "ff02::1": "multicast",
    "2001:db8::1": "private",
    "100::1": "private",
}
PUBLIC = [
    "1.1.1.1",
    "93.184.216.34",
    "2606:4700::1111",
    "::ffff:1.1.1.1",
    "64:ff9b::1.1.1.1",
    "2002:101:101::1",
]


@pytest.mark.parametrize("text", REFUSED)
def test_addresses_that_are_not_public_are_refused(text: str) -> None:
    reason = why_refused(ip_address(text))
    assert reason is not None
    assert REFUSED[text] in (None, reason)


@pytest.mark.parametrize("text", PUBLIC)
def test_public_addresses_are_fine(text: str) -> None:
    assert why_refused(ip_address(text)) is None


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_is_judged_alike_in_every_disguise(number: int) -> None:
    plain = why_refused(IPv4Address(number))
    for disguise in (
        (0xFFFF << 32) | number,
        (0x64_FF9B << 96) | number,
        (0x2002 << 112) | (number << 80),
    ):
        assert why_refused(IPv6Address(disguise)) == plain


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f000001", "2130706433", "017700000001", "::1", "0"]
)
def test_hosts_are_judged_as_the_resolver_reads_them(host: str) -> None:
    with pytest.raises((SourceError, TryAgainError)) as raised:
        public_addresses(host, 80, url="u")
    assert not isinstance(raised.value, SourceError) or raised.value.host == host


def test_public_addresses_are_returned_once() -> None:
    assert public_addresses("1.1.1.1", 80, url="u") == ["1.1.1.1"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h/p", "http://h/p"),
        ("http://h/p?token=1", "http://h/p?..."),
        ("http://u:pw@h/p", "http://h/p"),
        ("http://h", "http://h"),
    ],
)
def test_messages_show_no_secret(url: str, expected: str) -> None:
    assert shown(url) == expected
