"""Reading a record back that a process wrote down: only what its kind says, so that what comes of it is known."""

from __future__ import annotations

from functools import lru_cache

import orjson
from pydantic import TypeAdapter, ValidationError

from app.audit.records import KINDS, Name, Record, Told
from app.audit.records.schema import names_of

__all__ = ["record_from"]


def record_from(text: bytes) -> Record:
    """The record that this JSON is.

    Raises:
        ValueError: it isn't one of this version: no record, of another name, or with other members than that name's.
    """
    try:
        members = orjson.loads(text)
        name = Name(members["name"])
    except (ValueError, KeyError, TypeError) as error:
        message = f"no record that is known: {error!r}"
        raise ValueError(message) from error
    try:
        told = _kind_of(name).validate_json(text, strict=True, extra="forbid").record()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise ValueError(message) from error
    if missing := told.members.keys() - members.keys():
        message = f"{name}: {', '.join(sorted(missing))}: missing"
        raise ValueError(message)
    return Record(name, members)


@lru_cache
def _kind_of(name: Name) -> TypeAdapter[Told]:
    return next(TypeAdapter(kind) for kind in KINDS if name in names_of(kind))
