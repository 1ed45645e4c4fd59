"""Archives: what is removed from the record, in files that are complete and on disk before it is."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile

from app.audit.chain import Broken
from app.audit.seals import Archived
from app.audit.storing import Execute
from app.audit.stretches import Stretch, Walk
from app.storage.files import sync_folder

__all__ = ["Archive", "ArchiveUnusable", "Export"]

PARTIAL = ".partial"
GZIP = 16 + zlib.MAX_WBITS
"""Deflate in the frame of gzip, with no name and no time in it: the same records make the same file."""


class ArchiveUnusable(Exception):
    """The archive can't be written; the message says why."""


class Archive:
    """One file in the making: gzip (RFC 1952) over a line for each body. It has its name only when it is whole.

    Args:
        folder: where it comes to lie.
        file: its name there.

    Raises:
        ArchiveUnusable: the folder can't be written to.
    """

    def __init__(self, folder: Path, file: str) -> None:
        self._path = folder / file
        with _translated():
            self._partial = NamedTemporaryFile(dir=folder, prefix=f".{file}.", suffix=PARTIAL, delete=False)  # noqa: SIM115 - `discard` closes it
        self._deflate = zlib.compressobj(wbits=GZIP)

    def add(self, bodies: Iterable[bytes]) -> None:
        """Write lines.

        Raises:
            ArchiveUnusable: they can't be written.
        """
        with _translated():
            self._partial.write(self._deflate.compress(b"".join(body + b"\n" for body in bodies)))

    def complete(self) -> Archived:
        """Have it on disk, under its name. A file that has this name already must be the same, as an interrupted run left it.

        Raises:
            ArchiveUnusable: it isn't there.
        """
        partial = Path(self._partial.name)
        with _translated():
            self._partial.write(self._deflate.flush())
            self._partial.flush()
            os.fsync(self._partial.fileno())
            sha256 = _sha256(partial)
            if self._path.exists() and _sha256(self._path) != sha256:
                message = f"{self._path} is there already, with other content; it isn't overwritten"
                raise ArchiveUnusable(message)
            partial.rename(self._path)
            sync_folder(self._path.parent)
        return Archived(self._path.name, sha256)

    def discard(self) -> None:
        """Close it; what isn't complete goes.

        Raises:
            ArchiveUnusable: what isn't complete stays.
        """
        with suppress(OSError):
            # What can't be written of it any more isn't wanted any more.
            self._partial.close()
        with _translated():
            Path(self._partial.name).unlink(missing_ok=True)


class Export:
    """Writes a stretch to an archive, recomputing it once more: what goes is what was signed.

    Args:
        stretch: what to write.
        folder: where the archive comes to lie.
    """

    def __init__(self, stretch: Stretch, folder: Path) -> None:
        self._stretch = stretch
        self._folder = folder
        self._walk = Walk(stretch.start, stretch.last.seq)
        self._archive: Archive | None = None

    def write_on(self, execute: Execute) -> bool:
        """Write a page; gives whether there is more to write.

        Raises:
            ArchiveUnusable: it can't be written.
            Broken: a record is missing or isn't what was chained.
        """
        page = self._walk.page(execute)
        self._file().add(body for _, _, body in page)
        return bool(page)

    def complete(self) -> Archived:
        """Have the archive on disk, under its name.

        Raises:
            ArchiveUnusable: it isn't there.
            Broken: the records don't end in the checkpoint's hash.
        """
        if self._walk.head != self._stretch.last:
            message = f"the records don't lead to the checkpoint at {self._stretch.last.seq} any more"
            raise Broken(message)
        return self._file().complete()

    def discard(self) -> None:
        """Close the file, if it was begun; what isn't complete goes.

        Raises:
            ArchiveUnusable: what isn't complete stays.
        """
        if self._archive:
            self._archive.discard()

    def _file(self) -> Archive:
        if self._archive is None:
            self._archive = Archive(self._folder, f"{self._stretch.chain}-{self._stretch.first}-{self._stretch.last.seq}.jsonl.gz")
        return self._archive


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ArchiveUnusable(str(error)) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
