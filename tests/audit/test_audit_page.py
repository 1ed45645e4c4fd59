"""The page on the record names every finding that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.audit.verification import Kind

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", Kind)
def test_every_finding_is_explained(kind: Kind) -> None:
    """Who sees a finding can read what it means: a failure in the table, a note below it."""
    assert (f"`{kind}`" if kind.is_note else f"| `{kind}` |") in PAGE
