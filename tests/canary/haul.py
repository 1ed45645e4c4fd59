"""All that came out of the gateway, by where it came from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from tests.canary.searching import Searcher

__all__ = ["Haul"]

PROC = Path("/proc")


@dataclass
class Haul:
    """What came out, as bytes, in the order in which it came."""

    parts: list[tuple[str, bytes]] = field(default_factory=list)

    def add(self, source: str, content: bytes | str) -> None:
        """Keep something."""
        self.parts.append((source, content.encode() if isinstance(content, str) else content))

    def add_answer(self, source: str, answer: httpx2.Response) -> None:
        """Keep an answer, its headers included."""
        headers = b"\n".join(name + b": " + value for name, value in answer.headers.raw)
        self.add(source, f"{answer.status_code} {answer.reason_phrase}\n".encode() + headers + b"\n\n" + answer.content)

    def add_folder(self, folder: Path) -> None:
        """Keep every file's name and content."""
        for path in sorted(folder.rglob("*")):
            self.add("a file's name", str(path.relative_to(folder)))
            if path.is_file():
                self.add(f"file {path.name}", path.read_bytes())

    def add_process(self, process: int) -> None:
        """Keep what other processes can see of this one and of all its children: arguments and environment."""
        for one in (process, *_children_of(process)):
            for name in ("cmdline", "environ"):
                self.add(f"{name} of process {one}", (PROC / str(one) / name).read_bytes())

    def text(self, source: str) -> str:
        """All that came from there."""
        return b"\n".join(content for name, content in self.parts if name.startswith(source)).decode(errors="replace")

    def finds(self, searcher: Searcher) -> list[str]:
        """Where the secrets were found, and how they stood there."""
        return [f"{source}: {found}" for source, content in self.parts for found in searcher.finds(content)]


def _children_of(process: int) -> Iterator[int]:
    for task in (PROC / str(process) / "task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from _children_of(child)
