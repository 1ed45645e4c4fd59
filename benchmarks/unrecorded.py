"""The gateway as it would be if records were on disk at once: `python -m benchmarks.unrecorded serve …`. It keeps none."""

from __future__ import annotations

from collections.abc import Sequence

from app.audit import Ledger, Record
from app.cli import main

__all__ = ["forget"]


async def forget(_ledger: Ledger, _records: Sequence[Record]) -> None:
    """Append nothing, and return at once."""


if __name__ == "__main__":
    Ledger.append = forget  # type: ignore[assignment,method-assign]
    main()
