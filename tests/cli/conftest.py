"""What the tests of commands share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from app.settings import PREFIX

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
