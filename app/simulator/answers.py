"""The upstream's answers as values."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

JSON: Final = "application/json"
TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body, and the headers beside `Content-Type` and `Content-Length`."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()

    def with_header(self, name: str, value: str) -> "Answer":
        """Return this answer with one more header."""
        return replace(self, headers=(*self.headers, (name, value)))


def json_answer(status: int, content: Any) -> Answer:  # noqa: ANN401 - whatever json.dumps takes
    """Return `content` as compact JSON."""
    return Answer(status, json.dumps(content, separators=(",", ":")).encode())


def message(status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    """Return an error as Flxpoint might word it; it publishes no schema for them."""
    return Answer(status, json.dumps({"message": text}).encode(), headers=tuple(headers))
