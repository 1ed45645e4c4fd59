"""Requests that two readers could understand differently: they are refused, so that none is smuggled. Pure.

llhttp refuses most by itself (both `Content-Length` and `Transfer-Encoding`, folded headers, bare CR and LF, blanks before a colon); what
stands here is what it takes all the same. Tests hold both parts together, against real sockets.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["Malformed", "NoTrailers", "check_head"]

VERSIONS = {"1.1", "1.0"}
HOST = re.compile(rb"(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")

Headers = Sequence[tuple[bytes, bytes]]


class Malformed(Exception):
    """The request is not well-formed; its connection ends."""


class NoTrailers(list[tuple[bytes, bytes]]):
    """Where the headers of a request are gathered once its head is whole: there may be none.

    The parser adds a trailer to the headers, also to those that were checked already (RFC 9110, section 6.5.1: it must not).
    """

    def append(self, _trailer: tuple[bytes, bytes]) -> None:
        """Refuse a trailer.

        Raises:
            Malformed
        """
        message = "trailers aren't taken"
        raise Malformed(message)


def check_head(version: str, target: bytes, headers: Headers, *, upgrade: bool) -> None:
    """Make sure that a head can be understood in one way only.

    Args:
        version: HTTP's, such as `1.1`.
        target: as it stands in the request line.
        headers: with names in small letters.
        upgrade: the parser takes what follows for another protocol.

    Raises:
        Malformed
    """
    hosts, codings, has_body = [], [], False
    for name, value in headers:
        if name == b"host":
            hosts.append(value)
        elif name == b"transfer-encoding":
            codings.append(value)
            has_body = True
        elif name == b"content-length":
            has_body = value.strip(b" \t0") != b""
    if version not in VERSIONS:
        # Without any version, llhttp takes a bare LF for the line's end, and headers and a body after it.
        message = "the version is neither HTTP/1.1 nor HTTP/1.0"
        raise Malformed(message)
    _check_target(target)
    _check_hosts(hosts, version)
    if codings:
        _check_coding(codings, version)
    if upgrade and has_body:
        message = "no other protocol is spoken here, and the parser would lose the body"
        raise Malformed(message)


def _check_target(target: bytes) -> None:
    """A path and a query: neither another host's address (which could belie `Host`) nor a fragment, which readers cut off or don't."""
    if target[:1] != b"/" or b"#" in target:
        message = "the target is not a path with a query"
        raise Malformed(message)


def _check_hosts(hosts: list[bytes], version: str) -> None:
    """RFC 9112, section 3.2: one, and a host's name; HTTP/1.0 may lack it."""
    if len(hosts) == 1 and HOST.fullmatch(hosts[0]):
        return
    if hosts or version != "1.0":
        message = "Host must stand once and name a host"
        raise Malformed(message)


def _check_coding(codings: list[bytes], version: str) -> None:
    """RFC 9112, section 6.1: whether the last coding is `chunked` is what readers find out differently, so it must be the only one."""
    if version != "1.1" or len(codings) != 1 or codings[0].lower() != b"chunked":
        message = "Transfer-Encoding can only be chunked"
        raise Malformed(message)
