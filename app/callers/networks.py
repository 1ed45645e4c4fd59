"""Where requests come from: the client's address behind proxies, and whether a caller may call from there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from app.domain import Network

__all__ = ["client_address", "is_within", "neighbourhood"]

MOST_HOPS = 32
HOP = re.compile(r"[ \t]*(?:\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+))[ \t]*", re.ASCII)
SITE_PREFIX = 64
LONGEST_ADDRESS = 64  # RFC 4291's longest has 45 characters; zones are short
MOST_HELD = 4_096


def client_address(peer: str, forwarded: Sequence[str], trusted: Sequence[Network]) -> str:
    """The client's address: the right-most entry of `X-Forwarded-For` that isn't a trusted proxy's, if the peer is one.

    Where an entry can't be understood, or there are no more, it is the last trusted proxy's. An IPv4 address in IPv6's form is given as
    what it is.

    Args:
        peer: the address at the connection's other end.
        forwarded: every value of `X-Forwarded-For`, in order; each proxy adds at the right who asked it.
        trusted: the networks of the proxies, whose additions are believed.
    """
    address = _address(peer)
    if address is None:
        return peer
    if not forwarded:
        return _written(address)
    # One hop too many holds commas, so that it isn't understood.
    for hop in reversed(",".join(forwarded).rsplit(",", MOST_HOPS)):
        before = _hop(hop) if _among(address, trusted) else None
        if before is None:
            break
        address = before
    return _written(address)


def is_within(address: str | None, networks: Sequence[Network]) -> bool:
    """Whether the address is in one of the networks; where there are none, all are."""
    if not networks:
        return True
    known = _address(address) if address else None
    return known is not None and _among(known, networks)


def neighbourhood(address: str) -> str:
    """What stands for one client when its requests are counted: an IPv4 address; the /64 of an IPv6 one, which is a single site's."""
    known = _address(address)
    if isinstance(known, IPv6Address):
        return str(IPv6Network((int(known) >> SITE_PREFIX << SITE_PREFIX, SITE_PREFIX)))
    return address if known is None else str(known)


def _hop(text: str) -> IPv4Address | IPv6Address | None:
    """An entry's address: plain, with a port, or in brackets with one or without (RFC 7239, section 6, calls these forms nodes)."""
    match = HOP.fullmatch(text)
    return _address(next(group for group in match.groups() if group)) if match else None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    """An address without its zone, and IPv4 where it is one."""
    return _parsed(text) if len(text) <= LONGEST_ADDRESS else None


# Nearly all requests come from few addresses; to read one costs more than all else that is done with it.
@lru_cache(maxsize=MOST_HELD)
def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


@lru_cache(maxsize=MOST_HELD)
def _written(address: IPv4Address | IPv6Address) -> str:
    return str(address)


def _among(address: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)
