"""`key new`: a key for the configuration file."""

from __future__ import annotations

import hashlib
import re

from .shell import Shell


def test_a_new_key_comes_with_its_hash(shell: Shell) -> None:
    """The key is shown with the line for the file, whose hash is its secret's; nothing is kept, not even a state folder."""
    ran = shell("key", "new")

    found = re.search(r"^fgk_([0-9a-f]{12})_(\S{43})$", ran.out, re.MULTILINE)
    assert found
    assert (ran.status, ran.err) == (0, "")
    assert f"- sha256: fgk_{found[1]}:{hashlib.sha256(found[2].encode()).hexdigest()}\n" in ran.out
    assert not shell.state_dir.exists()


def test_a_new_key_is_json_too(shell: Shell) -> None:
    """For programs: its ID, the key, and what may stand in the file; each key is another."""
    first, second = (shell("key", "new", "--json").document for _ in range(2))

    digest = hashlib.sha256(first["key"].rpartition(f"{first['id']}_")[2].encode()).hexdigest()
    assert first["sha256"] == f"fgk_{first['id']}:{digest}"
    assert first["id"] != second["id"]
