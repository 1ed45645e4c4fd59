"""Running commands as a shell does, in this process: through the program's own entry, with its exit status and its streams."""

from __future__ import annotations

import io
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.cli import main


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The JSON document that it printed."""
        assert (self.status, self.err) == (0, "")
        return json.loads(self.out)


class Shell:
    """A shell whose variables name one state folder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], state_dir: Path) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.state_dir = state_dir
        self.set(STATE_DIR=str(state_dir))

    def set(self, **variables: str) -> None:
        """Set `GATEWAY_*` variables."""
        for name, value in variables.items():
            self._monkeypatch.setenv(f"GATEWAY_{name}", value)

    @staticmethod
    def variable(name: str) -> str:
        """What a `GATEWAY_*` variable is."""
        return os.environ[f"GATEWAY_{name}"]

    def __call__(self, *arguments: str, given: str | bytes = "") -> Ran:
        """Run a command with `given` on its standard input."""
        stream = io.BytesIO(given.encode() if isinstance(given, str) else given)
        self._monkeypatch.setattr(sys, "argv", ["flxpoint-gateway", *arguments])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream, encoding="utf-8"))
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        streams = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, streams.out, streams.err)
