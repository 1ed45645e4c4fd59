"""What an image is searched for."""

from __future__ import annotations

from pathlib import Path

import pytest

from shipping.contents import unwanted


@pytest.mark.parametrize(
    "path",
    [
        "usr/bin/gcc",
        "opt/gateway/bin/pip",
        "opt/gateway/lib/python3.11/site-packages/pip/__init__.py",
        "usr/lib/python3/dist-packages/setuptools/__init__.py",
        "usr/lib/python3.11/ensurepip/__init__.py",
        "root/.cache/pip/http/a",
        "var/cache/apt/archives/python3.deb",
    ],
)
def test_what_only_building_needs_is_found(tmp_path: Path, path: str) -> None:
    """A compiler, an installer or what one of them kept is named by its place."""
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_bytes(b"")

    (found,) = unwanted(tmp_path)

    assert path.startswith(found)


def test_what_running_needs_is_left_alone(tmp_path: Path) -> None:
    """Python, packages whose names are like theirs, and folders of other names are what an image is for."""
    for path in ("usr/bin/python3", "opt/gateway/lib/python3.11/site-packages/pipeline/a.py", "srv/make", "usr/share/doc/gcc"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"")

    assert unwanted(tmp_path) == []
