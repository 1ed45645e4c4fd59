"""The whole story of a request: all its records, and those of the sends that carried its calls, also where another call's turn it was."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from app.audit.finding import Stored, numbers_of, stored
from app.audit.storing import Execute

__all__ = ["Story", "story_of"]

MOST_SHOWN = 1_000
NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
LARGEST_NUMBER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Story:
    """Records, oldest first; `more` tells whether older ones were left out."""

    records: list[Stored]
    more: bool


def story_of(execute: Execute, reference: str) -> Story:
    """What a reference leads to: a request's ID, or that of a record, a call or a send, or a record's number.

    A caller chooses its request's ID. Where one means several things, the stories of all of them are told, so that none hides another.
    At most the newest 1,000 records are given.
    """
    if not _is_unicode(reference):
        return Story([], more=False)
    named = list(stored(execute, sorted(_named(execute, reference))))
    requests = {reference, *_requests_of(execute, reference, named)}
    numbers = {one.number for one in named}
    for request in requests:
        numbers |= _of_request(execute, request)
    newest = sorted(numbers)[-MOST_SHOWN:]
    return Story(list(stored(execute, newest)), more=len(numbers) > MOST_SHOWN)


def _is_unicode(reference: str) -> bool:
    """Whether a record can hold it: an argument that isn't UTF-8 comes with halves of surrogate pairs."""
    try:
        reference.encode()
    except UnicodeEncodeError:
        return False
    return True


def _named(execute: Execute, reference: str) -> set[int]:
    """The records that the reference names, or whose call or send it names."""
    numbers = set(numbers_of(execute, "id", reference, 1))
    if NUMBER.fullmatch(reference):
        # An order's ID stands in the same index as a call's, and isn't asked for here.
        return numbers | {min(int(reference), LARGEST_NUMBER)}
    return numbers | set(numbers_of(execute, "value", reference, MOST_SHOWN))


def _requests_of(execute: Execute, reference: str, named: Iterable[Stored]) -> Iterator[str]:
    """The requests that those records belong to. A record that is named itself, or its send, leads to all calls that the send carried."""
    for one in named:
        members = one.members()
        carried = _carried(members)
        if reference not in carried or members.get("call_id") == reference:
            yield from _request(members)
        if reference not in carried:
            yield from (request for call in carried for request in _request_of_call(execute, call))


def _request_of_call(execute: Execute, call: str) -> Iterator[str]:
    for one in stored(execute, numbers_of(execute, "value", call, MOST_SHOWN)):
        members = one.members()
        if members.get("call_id") == call:
            yield from _request(members)


def _request(members: dict[str, Any]) -> Iterator[str]:
    if "request_id" in members:
        yield str(members["request_id"])


def _carried(members: dict[str, Any]) -> list[str]:
    """The calls that a send carried; whatever else an edited record holds there leads nowhere."""
    given = members.get("call_ids")
    return [one for one in given if isinstance(one, str)] if isinstance(given, list) else []


def _of_request(execute: Execute, request: str) -> set[int]:
    """The request's records, and those of the sends that carried its calls; one more than are shown, where there are."""
    numbers = set(numbers_of(execute, "request_id", request, MOST_SHOWN + 1))
    calls = {str(members["call_id"]) for one in stored(execute, sorted(numbers)) if "call_id" in (members := one.members())}
    for call in calls:
        numbers |= set(numbers_of(execute, "value", call, MOST_SHOWN))
    return numbers
