"""Whose pages may call: the rule on the header `Origin` (RFC 6454; Fetch standard, "CORS protocol")."""

from __future__ import annotations

from collections.abc import Sequence

from app.callers.directory import Directory
from app.domain import Caller, CredentialKind
from app.errors import OriginNotAllowed

__all__ = ["Origins", "check_origin"]

LONGEST_OWN = 300  # a host's name has 253 characters; every call's record holds its origin


class Origins:
    """The origins that pages may have: each caller's own, or the gateway's list for a caller that has none.

    Args:
        directory: the callers.
        shared: the gateway's list.
    """

    def __init__(self, directory: Directory, shared: frozenset[str]) -> None:
        self._directory = directory
        self._shared = shared

    def known(self, origin: str) -> bool:
        """Whether any page of this origin may call. It is all that can be asked of a preflight, which carries no credential."""
        return origin in self._shared or origin in self._directory.origins

    def lists(self, origin: str) -> bool:
        """Whether the origin is on the gateway's list, which counts for callers that have none of their own."""
        return origin in self._shared

    def of(self, caller: Caller) -> frozenset[str]:
        """The origins that the caller's pages may have; for a ticket's, that of the ticket, or none once its caller's may not have it."""
        return caller.origins if caller.credential is CredentialKind.TICKET else caller.origins or self._shared

    def check(self, caller: Caller, given: Sequence[str], host: str | None) -> None:
        """Make sure that a known caller's request comes from where it may.

        Args:
            caller: as its credential proved it.
            given: every value of the header `Origin`; without any the request is no page's.
            host: the value of the header `Host`.

        Raises:
            OriginNotAllowed
        """
        check_origin(caller, given, allowed=self.of(caller), host=host)


def check_origin(caller: Caller, given: Sequence[str], *, allowed: frozenset[str], host: str | None) -> None:
    """Compare a request's origin with those allowed, character by character. Pure.

    A ticket needs its very origin: whoever holds one without being that page has taken it. Other credentials need none, and may come from
    the gateway's own pages too. `null` is the origin of any sandboxed page, and so of none.

    Raises:
        OriginNotAllowed
    """
    if caller.credential is CredentialKind.TICKET:
        if len(given) != 1 or given[0] not in allowed:
            detail = (
                "a ticket is good only on pages of the origin that it was made for, while its caller's pages may have that; "
                "the header Origin must name it once"
            )
            raise OriginNotAllowed(detail)
        return
    if given and not (len(given) == 1 and (given[0] in allowed or _is_own(given[0], host))):
        detail = "the header Origin names none of the origins that this caller's pages may have"
        raise OriginNotAllowed(detail)


def _is_own(origin: str, host: str | None) -> bool:
    """Whether the page is the gateway's. The scheme isn't compared: before a proxy that ends TLS the gateway doesn't know it."""
    return host is not None and len(origin) <= LONGEST_OWN and origin in {f"http://{host}", f"https://{host}"}
