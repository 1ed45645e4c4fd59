"""Who makes a change by a command, as the record has it."""

from __future__ import annotations

import pytest

from tests.cli.shell import Shell


def test_a_user_whose_name_is_no_unicode_can_make_changes(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the operating system's name holds beyond Unicode stands on record as question marks."""
    monkeypatch.setenv("LOGNAME", "op\udcff")
    added = shell("caller", "add", "order-service")
    [opened, record] = reversed(shell("audit", "list", "--json").document)

    assert added.status == 0
    assert (opened["name"], record["name"], record["by"]) == ("chain:opened", "caller:added", "command:op?")
