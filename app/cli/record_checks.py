"""What `check` looks at for the record: where it is kept meanwhile, handed on and archived. Nothing is opened for writing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from app.audit.spool import PREALLOCATED_BYTES
from app.cli.finding import Said, Status
from app.settings import Settings

__all__ = ["RECORD_CHECKS", "nearest"]


def nearest(path: Path) -> Path:
    """The path itself, or the nearest folder above it that is there."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())


def _spool(settings: Settings) -> Said:
    path = settings.spool_file
    if path.is_symlink() or (path.exists() and not _is_writable_file(path)):
        return Status.FAILED, f"GATEWAY_STATE_DIR: {path} can't be used: it is no file that can be written"
    missing = PREALLOCATED_BYTES - (path.stat().st_size if path.exists() else 0)
    free = shutil.disk_usage(nearest(path)).free
    if missing > free:
        return Status.FAILED, f"GATEWAY_STATE_DIR: {path} can't be made: it needs {missing} bytes, and {free} are free"
    return Status.OK, f"{path} {'would be made' if missing > 0 else 'has its room'}"


def _stream(settings: Settings) -> Said:
    target = settings.audit_stream
    if not target.startswith("file:"):
        return Status.OK, "standard output" if target == "stdout" else target
    path = Path(target.removeprefix("file:")).absolute()
    if path.exists():
        fault = "" if _is_writable_file(path) else "it is no file that can be written"
    else:
        fault = "" if _is_writable_folder(path.parent) else f"{path.parent} is no folder that can be written"
    if fault:
        return Status.FAILED, f"GATEWAY_AUDIT_STREAM: {target} can't be written: {fault}"
    return Status.OK, f"{path} {'can be written' if path.exists() else 'would be made'}"


def _anchor_command(settings: Settings) -> Said:
    """A start doesn't wait for it, so it is no more than a warning."""
    if not settings.anchor_command:
        return Status.OK, "none"
    name = settings.anchor_command[0]
    found = shutil.which(name)
    if found is None:
        return Status.WARNING, f"GATEWAY_AUDIT_ANCHOR_COMMAND: there is no program {name}; checkpoints would wait until there is"
    return Status.OK, found


def _archive(settings: Settings) -> Said:
    """What can't be archived isn't removed, so it is no more than a warning."""
    folder = settings.audit_archive_dir
    if folder is None:
        return Status.OK, "none"
    if not _is_writable_folder(folder):
        return Status.WARNING, f"GATEWAY_AUDIT_ARCHIVE_DIR: {folder} is no folder that can be written; nothing would be removed"
    return Status.OK, f"{folder} can be written"


def _is_writable_file(path: Path) -> bool:
    return path.is_file() and os.access(path, os.R_OK | os.W_OK)


def _is_writable_folder(path: Path) -> bool:
    return path.is_dir() and os.access(path, os.W_OK | os.X_OK)


RECORD_CHECKS: Mapping[str, Callable[[Settings], Said]] = {
    "audit spool": _spool,
    "audit stream": _stream,
    "audit anchor command": _anchor_command,
    "audit archive": _archive,
}
"""The checks by name, in the order in which they are told."""
