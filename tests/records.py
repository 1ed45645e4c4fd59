"""Records made up for tests of single rooms."""

from __future__ import annotations

from typing import Any

from app.audit import Name, Record
from app.audit.records.record import _now
from app.domain import new_id


def administrative(name: Name, by: str, subject: str, **members: Any) -> Record:
    """A record by its name and members, without a type that holds it to them."""
    given = {"id": new_id(), "at": _now(), "name": name, "by": by, "subject": subject} | members
    return Record(name, {member: value for member, value in given.items() if value is not None})
