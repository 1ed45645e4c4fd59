"""What is shipped, and under which version: `pyproject.toml` alone says it."""

from __future__ import annotations

import tomllib
from pathlib import Path

__all__ = ["NAME", "ROOT", "version"]

ROOT = Path(__file__).parent.parent
NAME = "flxpoint-gateway"


def version() -> str:
    """The one version of wheel, chart and image."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["version"])
