"""Where requests come from: behind proxies, and within networks."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.callers import client_address, neighbourhood
from app.callers.networks import is_within

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "fd00::/8")))


@pytest.mark.parametrize("forwarded", [[], ["198.51.100.7"], ["10.0.0.9"], ["nonsense"]])
def test_only_trusted_proxies_are_believed(forwarded: list[str]) -> None:
    """Whoever isn't a trusted proxy is the client itself, whatever it says of others."""
    assert client_address("203.0.113.5", forwarded, PROXIES) == "203.0.113.5"
    assert client_address("10.0.0.1", forwarded, ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["198.51.100.7"], "198.51.100.7"),
        (["1.1.1.1, 198.51.100.7"], "198.51.100.7"),
        (["1.1.1.1, 198.51.100.7, 10.2.3.4"], "198.51.100.7"),
        (["1.1.1.1, 198.51.100.7", "10.2.3.4,10.2.3.5"], "198.51.100.7"),
        (["198.51.100.7:4711"], "198.51.100.7"),
        (["2001:db8::7"], "2001:db8::7"),
        (["[2001:db8::7]"], "2001:db8::7"),
        (["[2001:DB8::7]:4711, fd00::1"], "2001:db8::7"),
        (["::ffff:198.51.100.7"], "198.51.100.7"),
        (["198.51.100.7, ::ffff:10.0.0.3"], "198.51.100.7"),
        ([" 198.51.100.7\t,10.0.0.2 "], "198.51.100.7"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy(forwarded: list[str], client: str) -> None:
    """From the right, the first entry that isn't a trusted proxy's counts: what stands before it, anybody may have written."""
    assert client_address("10.0.0.1", forwarded, PROXIES) == client


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        ([], "10.0.0.1"),
        ([""], "10.0.0.1"),
        (["unknown"], "10.0.0.1"),
        (["198.51.100.7, unknown"], "10.0.0.1"),
        (["198.51.100.7,"], "10.0.0.1"),
        (["198.51.100.7, unknown, 10.0.0.2"], "10.0.0.2"),
        (["198.51.100.256"], "10.0.0.1"),
        (["198.51.100.07"], "10.0.0.1"),
        (["2001:db8::7%eth0"], "10.0.0.1"),
        (["[2001:db8::7"], "10.0.0.1"),
        (["198.51.100.7:port"], "10.0.0.1"),
        (["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    ],
)
def test_what_isnt_understood_ends_the_walk(forwarded: list[str], client: str) -> None:
    """An entry that is no address, or the list's end, leaves the last trusted proxy as the client."""
    assert client_address("10.0.0.1", forwarded, PROXIES) == client


def test_the_walk_is_bounded() -> None:
    """Beyond 32 proxies nothing is believed any more, and nothing read."""
    proxies = [f"10.0.1.{number}" for number in range(33)]

    assert client_address("10.0.0.1", [", ".join(["198.51.100.7", *proxies[1:]])], PROXIES) == "198.51.100.7"
    assert client_address("10.0.0.1", [", ".join(["198.51.100.7", *proxies])], PROXIES) == "10.0.1.1"


@pytest.mark.parametrize(
    ("peer", "client"),
    [("::ffff:203.0.113.5", "203.0.113.5"), ("fe80::1%eth0", "fe80::1"), ("2001:DB8:0::1", "2001:db8::1"), ("socket", "socket")],
)
def test_an_address_has_one_form(peer: str, client: str) -> None:
    """A peer's address is shown in its shortest form, IPv4 as IPv4, without a zone; what is no address is left as it is."""
    assert client_address(peer, ["198.51.100.7"], PROXIES) == client


@settings(deadline=None)
@given(st.lists(st.text(max_size=40), max_size=5), st.sampled_from(["10.0.0.1", "203.0.113.5", "fd00::1"]))
def test_no_header_makes_reading_fail(forwarded: list[str], peer: str) -> None:
    """Whatever stands in the header, there is a client, and none behind an untrusted peer."""
    client = client_address(peer, forwarded, PROXIES)

    assert client
    assert peer != "203.0.113.5" or client == peer


@pytest.mark.parametrize(
    ("address", "networks", "within"),
    [
        ("203.0.113.5", (), True),
        (None, (), True),
        (None, ("0.0.0.0/0",), False),
        ("203.0.113.5", ("203.0.113.0/24",), True),
        ("203.0.113.5", ("198.51.100.0/24", "203.0.113.5/32"), True),
        ("203.0.114.5", ("203.0.113.0/24",), False),
        ("::ffff:203.0.113.5", ("203.0.113.0/24",), True),
        ("2001:db8::1", ("0.0.0.0/0",), False),
        ("2001:db8::1", ("2001:db8::/32",), True),
        ("socket", ("0.0.0.0/0", "::/0"), False),
    ],
)
def test_an_address_is_within_networks(address: str | None, networks: tuple[str, ...], within: bool) -> None:  # noqa: FBT001 - a table's column
    """Without networks every address will do; with some, it must be in one of them, and known."""
    assert is_within(address, tuple(map(ip_network, networks))) is within


def test_a_client_is_counted_by_its_neighbourhood() -> None:
    """An IPv6 client has a whole /64 to choose addresses from, so these count as one; IPv4 addresses count each for itself."""
    assert neighbourhood("2001:db8:0:1::1") == neighbourhood("2001:db8:0:1:ffff::2") == "2001:db8:0:1::/64"
    assert neighbourhood("2001:db8:0:2::1") == "2001:db8:0:2::/64"
    assert neighbourhood("203.0.113.5") == neighbourhood("::ffff:203.0.113.5") == "203.0.113.5"
    assert neighbourhood("socket") == "socket"
