"""What the canary's tests share."""

from __future__ import annotations

from tests.cli.conftest import _logging_as_it_was

__all__ = ["_logging_as_it_was"]
