"""What has begun and has no end on record: calls and sends, told from the records that go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from app.audit.records import Name

__all__ = ["OpenCall", "SendOfCall", "Unfinished"]

NEVER_LEFT = "not-sent"


@dataclass(slots=True)
class SendOfCall:
    """A send that named a call: the numbers of its intent and, where it has one, of its outcome."""

    id: str
    intent: int
    outcome: int | None = None
    uncertain: bool = True


@dataclass(slots=True)
class OpenCall:
    """A call without an outcome: the number of its intent, its last send that wasn't taken back, and how many those are.

    `uncertain`: a send before the last may have done its work.
    """

    number: int
    last: SendOfCall | None = None
    attempts: int = 0
    uncertain: bool = False
    _before: SendOfCall | None = None

    def sent(self, send: SendOfCall) -> None:
        """It is about to be sent, once more if it was before."""
        self.uncertain = self.uncertain or (self.last is not None and self.last.uncertain)
        self._before, self.last = self.last, send
        self.attempts += 1

    def answered(self, send_id: str, number: int, members: Mapping[str, Any]) -> None:
        """One of its sends has ended. If that never left, what was before holds again."""
        if self.last is None or self.last.id != send_id:
            return
        if members["result"] == NEVER_LEFT:
            self.last = self._before
            self.attempts -= 1
        else:
            self.last.outcome, self.last.uncertain = number, members["uncertain"]


@dataclass(slots=True)
class Unfinished:
    """The calls and the sends without an outcome, by their IDs; of a send, the number of its intent. In the order of their numbers."""

    calls: dict[str, OpenCall] = field(default_factory=dict)
    sends: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.calls) + len(self.sends)

    def see(self, number: int, members: Mapping[str, Any], *, begins: bool = True) -> None:
        """Take note of the next record.

        Args:
            number: its place among all.
            members: what it says.
            begins: whether what begins with it counts; what ends with it always does, and so does what a send tells of a call.
        """
        match members["name"]:
            case Name.CALL_INTENT:
                if begins:
                    self.calls[members["call_id"]] = OpenCall(number)
            case Name.CALL_OUTCOME:
                self.calls.pop(members["call_id"], None)
            case Name.SEND_INTENT:
                calls = self._named(members)
                if begins:
                    self.sends[members["send_id"]] = number
                for call in calls:
                    call.sent(SendOfCall(members["send_id"], number))
            case Name.SEND_OUTCOME:
                self.sends.pop(members["send_id"], None)
                for call in self._named(members):
                    call.answered(members["send_id"], number, members)

    def first(self, otherwise: int | None) -> int | None:
        """The least number of an intent without an outcome; `otherwise` where there is none."""
        numbers = chain((call.number for call in self.calls.values()), self.sends.values())
        return min(numbers, default=otherwise)

    def _named(self, members: Mapping[str, Any]) -> list[OpenCall]:
        return [call for call_id in members["call_ids"] if (call := self.calls.get(call_id))]
