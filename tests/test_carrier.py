"""A send that was announced on record has an end there, whatever befalls it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from app.audit.records import send_outcome
from app.carrier import Carrier
from app.domain import Linked, Outcome, Send, TokenRef, TokenValue
from app.errors import DeadlineExceeded
from tests.calls import SHOP, make_call


@dataclass
class Room:
    """Vault, callers, record and upstream in one; the upstream fails by a defect, unless it has an outcome."""

    told: list[tuple[str, bool | int | None]] = field(default_factory=list)
    outcome: Outcome | None = None

    def open(self, _token_id: str) -> tuple[TokenRef, TokenValue]:
        """The shop's token."""
        return SHOP, TokenValue("a-simulated-token-value")

    def require(self, *_: Any) -> None:
        """All may."""

    def still_takes(self, *_: Any) -> None:
        """It does."""

    async def sending(self, _send: Send) -> None:
        """The intent."""
        self.told.append(("intent", None))

    def sent(self, _send: Send, outcome: Outcome | None, *, written: bool) -> None:
        """The outcome."""
        assert outcome == self.outcome
        self.told.append(("outcome", written))

    def echoed(self, _send: Send, finds: int) -> None:
        """An echo."""
        self.told.append(("echoed", finds))

    async def send(self, *_: Any) -> Outcome:
        """The defect."""
        if self.outcome is None:
            raise ZeroDivisionError
        return self.outcome


@dataclass
class Moments:
    """A send that had left, or not."""

    was_written: bool
    echoes: int = 0

    async def turn(self) -> None:
        """Nothing to wait for."""

    def written(self, at: float, peer: str | None = None) -> None:
        """Nothing to keep."""

    def answered(self, at: float) -> None:
        """Nothing to keep."""

    def echoed(self, finds: int) -> None:
        """Nothing to keep."""


@pytest.mark.parametrize("written", [True, False])
async def test_a_defect_leaves_an_outcome(written: bool) -> None:  # noqa: FBT001 - a column of the table
    """It says whether the request had left, and is uncertain then."""
    room, call = Room(), make_call()
    send = Send(attempt=1, lane=SHOP.lane, ids=(1,), calls=(call,), released=0)
    with pytest.raises(ZeroDivisionError):
        await Carrier(room, room, room, room)(send, Moments(written))
    record = send_outcome(send, None, written=written).members

    assert room.told == [("intent", None), ("outcome", written)]
    assert (record["result"], record["uncertain"]) == ("unknown" if written else "not-sent", written)


async def test_an_echo_of_the_token_is_on_record() -> None:
    """Beside the outcome, with how often the value stood in the answer."""
    room, send = Room(outcome=Linked((1,))), Send(attempt=1, lane=SHOP.lane, ids=(1,), calls=(make_call(),), released=0)
    await Carrier(room, room, room, room)(send, Moments(was_written=True, echoes=2))

    assert room.told == [("intent", None), ("outcome", True), ("echoed", 2)]


async def test_what_nobody_wants_any_more_is_not_sent() -> None:
    """Asked at its turn the call is refused; given up while its send was put on record, it isn't written, and the record says so."""
    room = Room()
    call = replace(make_call(), wanted=lambda: False)
    send = Send(attempt=1, lane=SHOP.lane, ids=(1,), calls=(call,), released=0)
    carrier = Carrier(room, room, room, room)

    assert isinstance(carrier.refusal(call), DeadlineExceeded)
    with pytest.raises(DeadlineExceeded):
        await carrier(send, Moments(was_written=False))
    assert room.told == [("intent", None), ("outcome", False)]
