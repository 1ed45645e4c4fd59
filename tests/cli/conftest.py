"""What the tests of commands share."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from app.settings import PREFIX
from app.telemetry.logs import QUIET

from .shell import Shell


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """A shell with a state folder that isn't there yet, and no other variable of ours."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    return Shell(monkeypatch, capsys, tmp_path / "state")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, levels = root.handlers, {name: logging.getLogger(name).level for name in ("", *QUIET)}
    yield
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.configure(**before)
