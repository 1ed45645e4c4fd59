"""What the tests of commands share."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog

from app.settings import PREFIX
from app.telemetry.logs import QUIET

from .shell import Shell


@pytest.fixture
def shell_of(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[Path], Shell]:
    """Gives a shell with a certain state folder, and no other variable of ours."""
    for name in os.environ:
        if name.upper().startswith(PREFIX):
            monkeypatch.delenv(name)
    return lambda state_dir: Shell(monkeypatch, capsys, state_dir)


@pytest.fixture
def shell(shell_of: Callable[[Path], Shell], tmp_path: Path) -> Shell:
    """A shell with a state folder that isn't there yet."""
    return shell_of(tmp_path / "state")


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, levels = root.handlers, {name: logging.getLogger(name).level for name in ("", *QUIET)}
    yield
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    structlog.configure(**before)
