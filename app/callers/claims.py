"""Whose a JWT is: its claims against those that callers declare. Pure."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from app.callers.directory import Known
from app.domain import Caller

__all__ = ["Declared", "credential_id_of", "texts_of"]

LONGEST_SUBJECT = 96
NOT_SHOWN = re.compile(r"[^!-$&-~]")
"""All but visible ASCII, and the percent sign, which begins what stands for them."""


class Declared:
    """The claims that callers declare, arranged by the first of each, so that a JWT is held against those callers only that have its text.

    Args:
        known: the callers; those that declare no claims have no JWTs.
    """

    def __init__(self, known: Iterable[Known]) -> None:
        self._by_first: defaultdict[str, defaultdict[str, list[Known]]] = defaultdict(lambda: defaultdict(list))
        for one in known:
            for name, wanted in islice(one.claims.items(), 1):
                self._by_first[name][wanted].append(one)

    def callers_of(self, claims: Mapping[str, object]) -> list[Caller]:
        """The callers all of whose declared claims a JWT has."""
        return [
            one.caller for one in self._possible(claims) if all(wanted in texts_of(claims, name) for name, wanted in one.claims.items())
        ]

    def _possible(self, claims: Mapping[str, object]) -> Iterator[Known]:
        for name, by_text in self._by_first.items():
            # A list may hold a text twice; its caller is one all the same.
            for text in set(texts_of(claims, name)):
                yield from by_text.get(text, ())


def texts_of(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    """The texts that a claim has: itself where it is one, its members where it is a list of them; none where it is anything else.

    A name with dots leads into objects (`realm_access.roles`), unless a claim has that very name.
    """
    found = _at(claims, name)
    if isinstance(found, str):
        return (found,)
    if isinstance(found, list) and all(isinstance(one, str) for one in found):
        return tuple(found)
    return ()


def credential_id_of(claims: Mapping[str, object]) -> str:
    """What stands for a JWT in records: `jwt:` and its subject, in visible ASCII and of bounded length.

    A longer subject is cut, and told apart from others by the beginning of its SHA-256.
    """
    subject = claims.get("sub")
    shown = NOT_SHOWN.sub(_escaped, subject) if isinstance(subject, str) else ""
    if len(shown) > LONGEST_SUBJECT:
        shown = f"{shown[:LONGEST_SUBJECT]}~{hashlib.sha256(shown.encode()).hexdigest()[:16]}"
    return f"jwt:{shown}"


def _at(claims: Mapping[str, object], name: str) -> object:
    if name in claims:
        return claims[name]
    head, _, rest = name.partition(".")
    inner = claims.get(head)
    return _at(inner, rest) if rest and isinstance(inner, dict) else None


def _escaped(found: re.Match[str]) -> str:
    # JSON can spell half a surrogate pair, which UTF-8 can't.
    return "".join(f"%{byte:02X}" for byte in found[0].encode("utf-8", "surrogatepass"))
