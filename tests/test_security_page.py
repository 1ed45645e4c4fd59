"""The security page claims nothing that no test shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`([\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED.findall(PAGE))))
def test_the_test_that_a_claim_names_is_there(file: str, name: str) -> None:
    """A test that was renamed or removed leaves no claim behind."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")}

    assert tests
    assert not name or name in tests


def test_every_row_of_a_table_names_a_test() -> None:
    """What is claimed in a table is shown."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line and "shown by" not in line]

    assert len(rows) > 15
    assert [row for row in rows if not NAMED.search(row)] == []
