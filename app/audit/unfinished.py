"""What has begun and has no end on record: calls and sends, told from the records that go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from app.audit.records import Name

__all__ = ["OpenCall", "Unfinished"]


@dataclass(slots=True)
class OpenCall:
    """A call without an outcome: the number of its intent, its last send, and how many sends named it."""

    number: int
    send_id: str | None = None
    attempts: int = 0


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
            begins: whether what begins with it counts; what ends with it always does, and so does that a send names a call.
        """
        match members["name"]:
            case Name.CALL_INTENT:
                if begins:
                    self.calls[members["call_id"]] = OpenCall(number)
            case Name.CALL_OUTCOME:
                self.calls.pop(members["call_id"], None)
            case Name.SEND_INTENT:
                if begins:
                    self.sends[members["send_id"]] = number
                self._sent(members["send_id"], members["call_ids"])
            case Name.SEND_OUTCOME:
                self.sends.pop(members["send_id"], None)

    def first(self, otherwise: int | None) -> int | None:
        """The least number of an intent without an outcome; `otherwise` where there is none."""
        numbers = chain((call.number for call in self.calls.values()), self.sends.values())
        return min(numbers, default=otherwise)

    def _sent(self, send_id: str, call_ids: list[str]) -> None:
        for call_id in call_ids:
            if call := self.calls.get(call_id):
                call.send_id = send_id
                call.attempts += 1
