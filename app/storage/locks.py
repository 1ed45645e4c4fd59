"""PostgreSQL's advisory locks (its manual, section 13.3.5): what is one lock on SQLite, the file's.

Who takes `RECORD` and `STATE` takes `STATE` first.
"""

from __future__ import annotations

__all__ = ["LEAD", "RECORD", "SERVE", "STATE"]

STATE = 0x666C_7801
"""Held by every transaction that writes what isn't the record, and while the schema is changed."""

RECORD = 0x666C_7802
"""Held by every transaction that writes the record, so that the order of its numbers is that of its commits."""

SERVE = 0x666C_7803
"""Held by the one process that serves, where turns are counted in the process; shared by all that serve, where turns are."""

LEAD = 0x666C_7804
"""Held by the one process that does what only one is to do: the stream of records, anchoring, retention."""
