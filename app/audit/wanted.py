"""What a reader wants of the record: which records, by what they hold and when they were made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from app.audit.records import Name
from app.errors import ParameterInvalid

__all__ = ["Wanted", "moment"]

ID = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which records are wanted: those for which everything holds that is given.

    `caller` and `token` are those of a call, or what a change was made to; `by` is who made it. `order` is an ID that a record asks for or
    tells of. `since` (inclusive) and `until` (exclusive) are times as records have them, and
    the stored time decides.
    """

    caller: str | None = None
    token: str | None = None
    order: str | None = None
    code: str | None = None
    name: str | None = None
    by: str | None = None
    request_id: str | None = None
    since: str | None = None
    until: str | None = None

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Wanted:
        """As it was written by whoever asks.

        Raises:
            ParameterInvalid: a value can't be one.
        """
        checked = dict(given)
        for called, value in given.items():
            if not value or not value.isprintable():
                detail = f"{called}: printable characters only, at least one"
                raise ParameterInvalid(detail)
        if "order" in given and not ID.fullmatch(given["order"]):
            detail = "order: an ID in decimal digits, without leading zeros"
            raise ParameterInvalid(detail)
        if "name" in given and given["name"] not in set(Name):
            detail = f"name: one of {', '.join(Name)}"
            raise ParameterInvalid(detail)
        for bound in ("since", "until"):
            if bound in given:
                checked[bound] = moment(given[bound], bound)
        return cls(**checked)

    def in_time(self, at: str) -> bool:
        """Whether a record that was made then is wanted."""
        return (self.since is None or self.since <= at) and (self.until is None or at < self.until)


def moment(text: str, called: str) -> str:
    """A time in ISO 8601, in UTC where it names no zone, as records have it.

    Raises:
        ParameterInvalid: it is none; `called` is what it is called.
    """
    try:
        given = datetime.fromisoformat(text)
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        detail = f"{called}: a time in ISO 8601, such as 2027-01-31 or 2027-01-31T12:00Z, in UTC where it names no zone"
        raise ParameterInvalid(detail) from None
