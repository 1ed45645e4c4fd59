"""A record as it is carried to the chain, and what every typed record has in common."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Any

from app.audit.records.members import At, RecordId
from app.audit.records.names import Name
from app.domain import new_id

__all__ = ["Record", "Told"]


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its name and its members, `id`, `at` and `name` among them, JSON's own values and none of them null.

    Its place in its chain is known when it is written.
    """

    name: Name
    members: Mapping[str, Any]

    @property
    def id(self) -> str:
        """Its UUIDv7."""
        return str(self.members["id"])


_Known = tuple[tuple[str, ...], Callable[["Told"], tuple[Any, ...]]]
_KNOWN: dict[type[Told], _Known] = {}
"""The members of each kind of record that was told, and what reads them all."""


@lru_cache(maxsize=2)
def _second(since_epoch: int) -> str:
    return datetime.fromtimestamp(since_epoch, UTC).replace(tzinfo=None).isoformat()


def _now() -> str:
    """The time as `app.domain.utc_now` has it, in a third of its time: records of one second share most of it."""
    seconds, microseconds = divmod(time.time_ns() // 1_000, 1_000_000)
    return f"{_second(seconds)}.{microseconds:06}+00:00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What every record has. Each kind of record is a type of its own beneath this one, with a `name` that is one of its few."""

    id: RecordId = field(default_factory=new_id)
    at: At = field(default_factory=_now)

    def record(self) -> Record:
        """As it is carried: the members that it has, without those that are None."""
        kind = type(self)
        names, values_of = _KNOWN.get(kind) or _learn(kind)
        members = {name: value for name, value in zip(names, values_of(self), strict=False) if value is not None}
        return Record(members["name"], members)


def _learn(kind: type[Told]) -> _Known:
    names = tuple(one.name for one in fields(kind))
    _KNOWN[kind] = names, attrgetter(*names)
    return _KNOWN[kind]
