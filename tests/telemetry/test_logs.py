"""Log lines: their form, and what must not be in them."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog

from app.domain import TokenValue
from app.telemetry import configure_logs
from app.telemetry.logs import QUIET

SECRET = "a-secret-value-0001"


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged, each line read as JSON."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def fail(password: str) -> None:
    """Fail with a secret among the locals."""
    kept = [password, TokenValue(password)]
    raise LookupError(len(kept))


def test_a_line_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    """Each line tells its time in UTC, its level, its logger, its event and the event's members, whatever they are."""
    configure_logs("INFO", as_json=True)

    structlog.get_logger("app.test").info("served\nwell", count=2, caller="é", value=object, token=TokenValue(SECRET))

    (line,) = lines(capsys)
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo is not None
    assert line == {
        "event": "served\nwell",
        "level": "info",
        "logger": "app.test",
        "count": 2,
        "caller": "é",
        "value": "<class 'object'>",
        "token": "•••",
    }


def test_the_libraries_lines_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """What libraries log with the standard library comes out in the same form."""
    configure_logs("INFO", as_json=True)

    logging.getLogger("uvicorn.error").warning("started %s of %d", "one", 2)

    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == ("started one of 2", "warning", "uvicorn.error")
    assert line["timestamp"].endswith("Z")


def test_what_is_bound_to_the_context_is_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A request's ID that was bound once stands in each line that its handling writes."""
    configure_logs("INFO", as_json=True)

    with structlog.contextvars.bound_contextvars(request_id="r-1"):
        structlog.get_logger("app.test").info("one")
        logging.getLogger("library").info("other")

    assert [line["request_id"] for line in lines(capsys)] == ["r-1", "r-1"]


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("library", [True, False])
def test_a_traceback_shows_no_locals(capsys: pytest.CaptureFixture[str], *, as_json: bool, library: bool) -> None:
    """A failure is logged with where it happened, and without the values that were at hand."""
    configure_logs("INFO", as_json=as_json)

    try:
        fail(SECRET)
    except LookupError:
        if library:
            logging.getLogger("library").exception("it failed")
        else:
            structlog.get_logger("app.test").exception("it failed")

    written = capsys.readouterr().err
    assert "it failed" in written
    assert "LookupError" in written
    assert "in fail" in written
    assert SECRET not in written
    if as_json:
        (line,) = written.splitlines()
        assert "LookupError" in json.loads(line)["exception"]


def test_lines_for_people_are_plain_text(capsys: pytest.CaptureFixture[str]) -> None:
    """The console's form is a line of text, without colours where no terminal is."""
    configure_logs("INFO", as_json=False)

    structlog.get_logger("app.test").warning("served", count=2)

    written = capsys.readouterr().err
    assert "served" in written
    assert "count=2" in written
    assert "\x1b" not in written


def test_less_severe_lines_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines below the level are not written, ours or a library's."""
    configure_logs("WARNING", as_json=True)

    structlog.get_logger("app.test").info("no")
    logging.getLogger("library").info("no")
    structlog.get_logger("app.test").warning("yes")

    assert [line["event"] for line in lines(capsys)] == ["yes"]


def test_a_second_set_up_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    """Setting logging up again doesn't write each line twice."""
    configure_logs("INFO", as_json=True)
    configure_logs("INFO", as_json=True)

    structlog.get_logger("app.test").info("once")

    assert [line["event"] for line in lines(capsys)] == ["once"]


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
def test_the_http_clients_urls_are_not_logged(capsys: pytest.CaptureFixture[str], level: str) -> None:
    """httpx2 would log each URL, whose query holds IDs; it is kept quiet at every level."""
    configure_logs(level, as_json=True)

    with httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200)), trust_env=False) as client:
        client.patch("http://upstream/orders/link?orderIds=77777")

    assert "77777" not in capsys.readouterr().err


@pytest.mark.parametrize("name", QUIET)
def test_chatty_libraries_are_quiet_at_every_level(name: str) -> None:
    """The libraries that would log requests, or a line for each refusal, are heard only when something is wrong."""
    configure_logs("DEBUG", as_json=True)

    assert not logging.getLogger(name).isEnabledFor(logging.INFO)


def test_a_line_that_can_not_be_written_ends_nothing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard error is a file on a disk that is full: what logs goes on, and later lines come when there is room."""
    configure_logs("INFO", as_json=True)
    full = Path("/dev/full").open("w", encoding="utf-8", buffering=1)  # noqa: SIM115 - to close it fails, too
    with monkeypatch.context() as patched:
        patched.setattr("sys.stderr", full)
        structlog.get_logger("app.test").info("lost")
    structlog.get_logger("app.test").info("there is room")
    with pytest.raises(OSError, match="No space left"):
        full.close()

    assert [line["event"] for line in lines(capsys)] == ["there is room"]
