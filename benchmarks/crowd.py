"""Many calls at once, each on a connection of its own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.client import Address, Answer, Connection, connected

__all__ = ["Told", "ask", "ask_all", "linked", "wrong"]


@dataclass(frozen=True, slots=True)
class Told:
    """An answer, and when its call was made and answered; monotonic seconds, on the clock that the simulator stamps arrivals with."""

    answer: Answer
    asked: float
    answered: float

    @property
    def took(self) -> float:
        """Seconds from the call to its answer."""
        return self.answered - self.asked


async def ask(connection: Connection, request: bytes) -> Told:
    """Make one call."""
    asked = time.monotonic()
    answer = await connection.exchange(request)
    return Told(answer, asked, time.monotonic())


async def ask_all(address: Address, requests: Sequence[bytes]) -> list[Told]:
    """Make all calls at once, and wait for all answers, which come in the order of the requests."""
    async with connected(address, len(requests)) as connections:
        return await asyncio.gather(*(ask(*pair) for pair in zip(connections, requests, strict=True)))


def linked(told: Told) -> list[int] | None:
    """The orders that an answer says were linked; None where it isn't that answer."""
    return json.loads(told.answer.body) if told.answer.status == 200 else None


def wrong(answers: Sequence[Told], orders: Sequence[int]) -> int:
    """How many answers are not 200 with exactly the one order that was asked for; the lists go in step."""
    return sum(linked(told) != [order] for told, order in zip(answers, orders, strict=True))
