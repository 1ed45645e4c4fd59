"""Turns that several replicas share: taken from Valkey, on its clock, by one atomic script each."""

from app.dispatch.shared.address import valkey_connections
from app.dispatch.shared.lanes import SharedTurns
from app.dispatch.shared.link import Link

__all__ = ["Link", "SharedTurns", "valkey_connections"]
