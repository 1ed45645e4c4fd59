"""Turns that several replicas share: taken from Valkey, on its clock, by one atomic script each."""

from app.dispatch.shared.address import valkey_connections
from app.dispatch.shared.link import Link
from app.dispatch.shared.turns import SharedTurns

__all__ = ["Link", "SharedTurns", "valkey_connections"]
