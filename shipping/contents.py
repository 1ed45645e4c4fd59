"""What an image must not hold: what only building needs, and what an intruder would like to find."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["unwanted"]

PROGRAMS = {"as", "c++", "cc", "clang", "g++", "gcc", "ld", "make", "pip", "pip3", "strip", "uv"}
PACKAGES = {"ensurepip", "pip", "setuptools"}
CACHES = (".cache/pip", ".cache/uv")


def unwanted(root: Path) -> list[str]:
    """Compilers, installers and their caches under a root folder, as paths from there; no link is followed."""
    return sorted(_found(root))


def _found(root: Path) -> Iterator[str]:
    for place, folders, files in os.walk(root):
        here = Path(place).relative_to(root)
        if here.name in {"bin", "sbin"}:
            yield from (str(here / name) for name in files if name in PROGRAMS)
        yield from (str(here / name) for name in folders if _is_package(here, name) or str(here / name).endswith(CACHES))
        yield from (str(here / name) for name in files if name.endswith(".deb"))


def _is_package(folder: Path, name: str) -> bool:
    return name in PACKAGES and (folder.name in {"site-packages", "dist-packages"} or folder.name.startswith("python3"))
