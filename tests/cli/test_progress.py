"""What is shown of a batch where nobody sits at a terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from app.cli.progress import Lines


def job(answered: int, state: str = "running", **more: Any) -> dict[str, Any]:
    """A job of 100 IDs."""
    return {"id": "a-job", "state": state, "counts": {"total": 100, "answered": answered, "failed": 1, "cancelled": 0}} | more


def test_lines_come_now_and_then() -> None:
    """There is a line when the state changes, when another tenth is done, and after 30 s with none; no other."""
    written: list[str] = []
    times = iter([0.0, 1.0, 2.0, 3.0, 4.0, 33.9, 34.0, 35.0])
    lines = Lines(written.append, lambda: next(times))

    for one in (job(0, "queued"), job(0, "queued"), job(0), job(8), job(9), job(9), job(9), job(99, "partly-failed")):
        lines.show(one)

    assert written == [
        "a-job: queued, 1 of 100 IDs, 1 failed",
        "a-job: running, 1 of 100 IDs, 1 failed",
        "a-job: running, 10 of 100 IDs, 1 failed",
        "a-job: running, 10 of 100 IDs, 1 failed",
        "a-job: partly-failed, 100 of 100 IDs, 1 failed",
    ]


def test_a_line_says_when_it_will_end() -> None:
    """The end that the gateway expects stands in the time of the machine; with the day, where that isn't today."""
    written: list[str] = []
    later = datetime.now(UTC) + timedelta(days=2)
    now = datetime.now().astimezone()

    Lines(written.append).show(job(0, expected_end=later.isoformat()))
    Lines(written.append).show(job(0, expected_end=now.isoformat()))

    assert written[0].endswith(f", ends {later.astimezone():%Y-%m-%d %H:%M}")
    assert written[1].endswith((f", ends {now:%H:%M:%S}", f", ends {now:%Y-%m-%d %H:%M}"))


def test_notes_are_lines() -> None:
    """What else is to be said is a line of its own."""
    written: list[str] = []

    Lines(written.append).note("trying again")

    assert written == ["trying again"]
