"""The rules of the house that no linter holds: each test names the class of bug that it keeps out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parent.parent / "app"
FILES = sorted(APP.rglob("*.py"))
VALUE_MAY_BE_REVEALED_IN = {"vault/registry.py", "upstream/request.py", "upstream/scrub.py"}
KEY_MAY_BE_REVEALED_IN = {"api/admin/caller.py", "cli/callers.py", "cli/demo.py", "cli/keys.py"}


def named(path: Path) -> str:
    """A file's name within the house."""
    return path.relative_to(APP).as_posix()


def calls(path: Path, attribute: str) -> Iterator[ast.Call]:
    """Every call of a method of that name in a file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == attribute:
            yield node


def test_a_plain_value_is_unwrapped_only_between_vault_and_upstream() -> None:
    """A token's value that is revealed anywhere else can end in a log, an answer or a record."""
    found = {named(path) for path in FILES if any(calls(path, "reveal"))}

    assert found == VALUE_MAY_BE_REVEALED_IN | KEY_MAY_BE_REVEALED_IN


def test_only_the_transport_layer_touches_the_stamps() -> None:
    """A write that is told before it happened, or made before its turn, squeezes two sends together."""
    assert {named(path) for path in FILES if any(calls(path, "written"))} == {
        "dispatch/lane.py",
        "dispatch/track.py",
        "upstream/wire.py",
    }
    assert {named(path) for path in FILES if any(calls(path, "turn"))} == {"upstream/wire.py"}


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_broad_except_stands_only_at_a_tasks_edge_and_logs(path: Path) -> None:
    """An exception that is swallowed hides a defect: `except Exception` must log, or raise."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}:
            source = ast.unparse(node)

            assert "log." in source or "raise" in source


def test_every_setting_is_documented() -> None:
    """A setting that README doesn't name can't be found."""
    from app.settings import PREFIX, Settings  # noqa: PLC0415 - a test of this alone

    readme = (APP.parent / "README.md").read_text(encoding="utf-8")
    missing = [PREFIX + name.upper() for name in Settings.model_fields if PREFIX + name.upper() not in readme]

    assert missing == []


def test_importing_the_application_has_no_effect() -> None:
    """Settings read or files opened at import make a process that can't be tested or configured."""
    for path in FILES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant):
                allowed = {"audit/records/__main__.py", "cli/__main__.py", "cli/program.py", "storage/migrations/env.py"}

                assert named(path) in allowed, f"{named(path)}:{node.lineno}"
