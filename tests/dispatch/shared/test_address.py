"""Addresses of Valkey, read without opening anything."""

from __future__ import annotations

import pytest

from app.dispatch.shared.address import valkey_connections

SECRET = "secret-part-0001"


@pytest.mark.parametrize(
    "address",
    [
        f"valkey://gateway:{SECRET}/rest@host:6379/0",
        f"valkey://gateway:pass@host:6379/0?{SECRET}=1",
        f"valkey+sentinel://gateway:pass@host:{SECRET}/lanes",
        f"valkey+sentinel://gateway:pass@host:1/lanes?{SECRET}=1",
        f"http://gateway:{SECRET}@host",
        f"valkey+sentinel://gateway:{SECRET}@/lanes",
    ],
)
def test_what_cant_be_used_is_told_without_quoting_it(address: str) -> None:
    """A password with a slash in it is read as a port: the error doesn't repeat it, nor does its cause."""
    with pytest.raises(ValueError, match=r"must") as raised:
        valkey_connections(address)

    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("valkey://host", "host", 6379), ("rediss://user:p%2Fw@host:1/2", "host", 1), ("valkeys://host:7?ssl_ca_certs=x", "host", 7)],
)
def test_an_address_is_read(address: str, host: str, port: int) -> None:
    """As valkey-py reads it, by the schemes of both."""
    connection = valkey_connections(address)()

    assert (connection.host, connection.port) == (host, port)  # type: ignore[attr-defined]


def test_options_of_tls_are_refused_without_tls() -> None:
    """They would be taken for protection that isn't there."""
    with pytest.raises(ValueError, match="option"):
        valkey_connections("redis://host?ssl_ca_certs=x")


@pytest.mark.parametrize(
    ("options", "seconds"),
    [
        ("", 3.0),
        ("?socket_timeout=3", 8.0),
        ("?socket_connect_timeout=0.25", 3.0),
        ("?socket_timeout=0.25&socket_connect_timeout=0.25", 2.5),
    ],
)
def test_connecting_may_take_so_long_for_each_sentinel(options: str, seconds: float) -> None:
    """Half a second for each, unless the address says otherwise, and two for the server itself."""
    assert valkey_connections(f"valkey+sentinel://one,two/lanes{options}").seconds == seconds
    assert valkey_connections("valkey://one").seconds == 2.0
