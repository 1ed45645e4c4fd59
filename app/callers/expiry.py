"""When keys end: durations and moments as operators write them. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from app.errors import ParameterInvalid

__all__ = ["parse_duration", "parse_end"]

# Of these, pydantic's durations take `90d` alone.
DURATION = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_duration(text: str) -> float:
    """A duration such as `90d`, `24h`, `30m` or `45s`, in seconds; `0` needs no unit.

    Raises:
        ParameterInvalid
    """
    match = DURATION.fullmatch("0s" if text == "0" else text)
    if match is None:
        detail = "a duration is written as 90d, 24h, 30m or 45s"
        raise ParameterInvalid(detail)
    return float(int(match[1]) * SECONDS[match[2]])


def parse_end(text: str, now: datetime) -> datetime:
    """A moment: a duration from `now`, or ISO 8601, in UTC where it names no zone.

    Raises:
        ParameterInvalid
    """
    if DURATION.fullmatch(text):
        return now + timedelta(seconds=parse_duration(text))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        detail = "an end is written as a duration, such as 90d, or as a time in ISO 8601, such as 2027-01-31T12:00Z"
        raise ParameterInvalid(detail) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
