"""When keys end, as operators write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.callers import parse_duration, parse_end
from app.errors import ParameterInvalid

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45s", 45), ("30m", 1_800), ("24h", 86_400), ("90d", 7_776_000), ("0s", 0), ("0", 0), ("007m", 420), ("999999d", 86_399_913_600)],
)
def test_a_duration_has_one_number_and_one_unit(text: str, seconds: float) -> None:
    """Days, hours, minutes and seconds are read; nothing needs no unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "1", "-1d", "+1d", "1.5h", "1h30m", "1 d", "1D", "1w", "1000000d", "\u0661d", "1d\n", "P1D"])
def test_another_duration_is_refused(text: str) -> None:
    """What has no unit, another form or too many digits is refused with what it should be."""
    with pytest.raises(ParameterInvalid, match="a duration is written as 90d, 24h, 30m or 45s"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90d", NOW + timedelta(days=90)),
        ("999999d", NOW + timedelta(days=999_999)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T12:00", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00:00Z", datetime(2027, 1, 31, 12, tzinfo=UTC)),
        ("2027-01-31T12:00+02:00", datetime(2027, 1, 31, 12, tzinfo=timezone(timedelta(hours=2)))),
    ],
)
def test_an_end_is_a_duration_or_a_time(text: str, moment: datetime) -> None:
    """A duration counts from now; a time without a zone is UTC."""
    assert parse_end(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "0", "tomorrow", "90", "31.01.2027", "2027-13-01"])
def test_another_end_is_refused(text: str) -> None:
    """What is neither is refused with what it should be."""
    with pytest.raises(ParameterInvalid, match="an end is written as a duration, such as 90d, or as a time in ISO 8601"):
        parse_end(text, NOW)
