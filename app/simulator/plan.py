"""The plan of faults: which fault hits which request."""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote_to_bytes

from app.simulator.faults import Fault, Latency

LARGEST_PLAN: Final = 1000
"""Faults that may stand in the plan at once."""


class Plan:
    """Faults in the order they were given.

    A request meets the first latency and the first other fault that concern its token, so that a slow network and a
    failing upstream can be had together. A fault that has hit its `count` of requests leaves the plan.
    """

    def __init__(self) -> None:
        """Begin with no faults."""
        self._faults: list[Fault] = []

    def add(self, faults: Iterable[Fault]) -> None:
        """Append `faults`.

        Raises:
            ValueError: the plan would grow beyond `LARGEST_PLAN`; nothing was added.

        """
        longer = [*self._faults, *faults]
        if len(longer) > LARGEST_PLAN:
            msg = f"at most {LARGEST_PLAN} faults can be planned"
            raise ValueError(msg)
        self._faults = longer

    def pending(self) -> list[Fault]:
        """Return the faults still planned; their `count` is what remains of it."""
        return list(self._faults)

    def clear(self) -> None:
        """Drop all faults."""
        self._faults = []

    def take_latency(self, name: str | None) -> Latency | None:
        """Return the latency for a request of the token `name`; None is a request without a known token."""
        for place, fault in enumerate(self._faults):
            if isinstance(fault, Latency) and _concerns(fault, name):
                self._use(place)
                return fault
        return None

    def take(self, name: str, query: bytes) -> Fault | None:
        """Return the fault, latency aside, for a request of the token `name` with this query string."""
        for place, fault in enumerate(self._faults):
            if not isinstance(fault, Latency) and _concerns(fault, name) and _holds(query, fault.holding):
                self._use(place)
                return fault
        return None

    def _use(self, place: int) -> None:
        fault = self._faults[place]
        if fault.count == 1:
            del self._faults[place]
        elif fault.count is not None:
            self._faults[place] = fault.model_copy(update={"count": fault.count - 1})


def _holds(query: bytes, wanted: int | None) -> bool:
    return wanted is None or str(wanted) in re.findall(r"[0-9]+", unquote_to_bytes(query).decode("latin-1"))


def _concerns(fault: Fault, name: str | None) -> bool:
    return fault.token is None or fault.token == name
