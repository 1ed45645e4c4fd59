"""When a call goes: lanes, decided by a pure core and run by one thin driver."""

from app.dispatch.driver import Dispatcher, Sender
from app.dispatch.lane import LaneState
from app.dispatch.report import BreakerReport, LaneReport
from app.dispatch.shared import Link, SharedTurns, valkey_connections
from app.dispatch.ticket import Settled, Ticket

__all__ = [
    "BreakerReport",
    "Dispatcher",
    "LaneReport",
    "LaneState",
    "Link",
    "Sender",
    "Settled",
    "SharedTurns",
    "Ticket",
    "valkey_connections",
]
