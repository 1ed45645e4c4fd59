"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Said", "Status"]


class Status(StrEnum):
    """How a check ended: only `failed` would stop a start, or the first call."""

    OK = "ok"
    WARNING = "warning"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    status: Status
    text: str


Said = tuple[Status, str]
"""A finding but for its name."""
