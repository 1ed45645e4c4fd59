"""The programs that build and run an image: buildah, podman with runc, and debootstrap."""

from __future__ import annotations

import os
import shutil
import subprocess

__all__ = ["NotAvailable", "need_tools"]

TOOLS = ("buildah", "podman", "runc", "debootstrap")


class NotAvailable(Exception):
    """No image can be built here; the message says why."""


def need_tools() -> None:
    """Install what is missing, where Debian's package manager can.

    Raises:
        NotAvailable: it can't be had.
    """
    if os.geteuid() != 0:
        message = "an image's base and its file owners are made as root, and this is another user"
        raise NotAvailable(message)
    if missing := _missing():
        _install(missing)
    if missing := _missing():
        message = f"not to be had here: {', '.join(missing)}"
        raise NotAvailable(message)


def _missing() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def _install(packages: list[str]) -> None:
    """Ask for the packages; whether they came is seen afterwards."""
    if (apt := shutil.which("apt-get")) is None:
        return
    quiet = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "--quiet=2"], ["install", "--yes", "--quiet=2", "--no-install-recommends", *packages]):
        subprocess.run([apt, *arguments], env=quiet, check=False)  # noqa: S603 - our own
