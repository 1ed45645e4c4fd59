"""Sharing a send: who gets which part of its answer, and how a merged send that was refused is taken apart. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from app.domain import Call, Linked, Outcome, Refused

__all__ = ["halves", "is_divisible", "share_of", "strangers", "union"]

DIVISIBLE_STATUSES = (400, 404, 413, 414, 422)


def union(calls: Sequence[Call]) -> tuple[int, ...]:
    """All IDs that the calls ask for, each once, in order."""
    # A call's own are each there once already.
    return calls[0].ids if len(calls) == 1 else tuple(dict.fromkeys(one for call in calls for one in call.ids))


def share_of(outcome: Outcome, call: Call, calls: Sequence[Call]) -> Outcome:
    """A call's own part of a send's outcome: of its IDs, those that the answer lists. A send's only request keeps the whole answer."""
    if not isinstance(outcome, Linked) or not _is_merged(calls):
        return outcome
    own = frozenset(call.ids)
    return replace(outcome, order_ids=tuple(one for one in outcome.order_ids if one in own))


def strangers(outcome: Outcome, calls: Sequence[Call]) -> frozenset[int]:
    """IDs in the answer that nobody asked for."""
    return frozenset(outcome.order_ids) - frozenset(union(calls)) if isinstance(outcome, Linked) else frozenset()


def is_divisible(outcome: Outcome, calls: Sequence[Call]) -> bool:
    """Whether one call's fault may have been the others' misfortune, so that they are sent again apart."""
    return isinstance(outcome, Refused) and outcome.status in DIVISIBLE_STATUSES and _is_merged(calls)


def halves(calls: Sequence[Call]) -> tuple[list[Call], list[Call]]:
    """The calls in two parts, their order kept; equal calls stay together."""
    requests = list(dict.fromkeys(_request(call) for call in calls))
    first = set(requests[: (len(requests) + 1) // 2])
    return [call for call in calls if _request(call) in first], [call for call in calls if _request(call) not in first]


def _is_merged(calls: Sequence[Call]) -> bool:
    return len(calls) > 1 and len({_request(call) for call in calls}) > 1


def _request(call: Call) -> frozenset[int]:
    return frozenset(call.ids)
