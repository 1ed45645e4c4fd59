"""Paths as they are logged: the words of the routes. Anything else in a path is its caller's own text, which may be a secret."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

__all__ = ["ShownPaths"]

CUT = "…"


class ShownPaths:
    """Shows paths.

    Args:
        routes: those of the application.
    """

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        patterns = [str(getattr(route, "path", "")).split("/") for route in routes]
        self._words = {word for pattern in patterns for word in pattern if "{" not in word}
        self._most = max(map(len, patterns), default=0)

    def __call__(self, path: str) -> str:
        """The path with `…` for each part that no route has, cut off where it is longer than that of any route."""
        words = path.split("/")
        shown = [word if word in self._words else CUT for word in words[: self._most]]
        return "/".join([*shown, CUT] if len(words) > self._most else shown)
