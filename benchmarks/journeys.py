"""What calls leave on record, without the calls: each one's four records, of the product's own types."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from app.audit.records import Record, call_intent, call_outcome, send_intent, send_outcome
from app.catalogue import load_catalogue
from app.domain import Call, Caller, Linked, Send, TokenKind, TokenRef, new_id
from app.settings import Settings
from benchmarks.stage import OWN_VARIABLES

__all__ = ["RECORDS_OF_CALL", "Journey", "Journeys"]

Journey = tuple[Record, Record, Record, Record]
"""The records of one call: taken in, about to be sent, sent, ended."""

RECORDS_OF_CALL = 4
OPERATION = "link-orders"


@dataclass(frozen=True)
class Journeys:
    """Calls with a few tokens, each for one order that the upstream links at once.

    Args:
        callers: how many make them, in turns.
        tokens: how many they are made with, in turns.
    """

    callers: int = 1
    tokens: int = 1

    @cached_property
    def _callers(self) -> list[Caller]:
        return [Caller(new_id(), f"service-{number}", f"key-{number}") for number in range(self.callers)]

    @cached_property
    def _tokens(self) -> list[TokenRef]:
        return [TokenRef(new_id(), f"account-{number}", TokenKind.ACCOUNT) for number in range(self.tokens)]

    def records(self, orders: Iterable[int]) -> Iterator[Journey]:
        """For each order the records of its call."""
        operation = load_catalogue(Settings(_env_prefix=OWN_VARIABLES).catalogue)[OPERATION]
        for place, order in enumerate(orders):
            call = Call(
                id=new_id(),
                request_id=new_id(),
                caller=self._callers[place % self.callers],
                operation=operation,
                parameter=operation.parameters[0],
                ids=(order,),
                token=self._tokens[place % self.tokens],
                arrived=0.0,
                deadline=30.0,
                address="10.20.30.40",
            )
            send, linked = Send(attempt=1, lane=call.token.id, ids=call.ids, calls=(call,), released=0.0), Linked(call.ids)
            yield (
                call_intent(call),
                send_intent(send),
                send_outcome(send, linked, written=True),
                call_outcome(
                    call,
                    code="ok",
                    linked=linked,
                    upstream_status=200,
                    send_id=send.id,
                    attempts=1,
                    queued=0.0021,
                    upstream=0.0817,
                ),
            )
