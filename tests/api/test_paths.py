"""Paths as they are logged."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from app.api.paths import ShownPaths

SHOWN = ShownPaths(
    [
        Route("/orders/link", PlainTextResponse("")),
        Route("/gateway/admin/tokens/{name}", PlainTextResponse("")),
        Mount("/gateway/assets", PlainTextResponse("")),
    ]
)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/orders/link", "/orders/link"),
        ("/gateway/admin/tokens/a-value", "/gateway/admin/tokens/…"),
        ("/gateway/assets/a-value.js", "/gateway/assets/…"),
        ("/orders/a-value", "/orders/…"),
        ("/a-value", "/…"),
        ("/Orders/{name}", "/…/…"),
        ("//orders/", "//orders/"),
        ("/orders" * 1_000, "/orders/orders/orders/orders/…"),
        ("/", "/"),
        ("a-value", "…"),
        ("", ""),
    ],
)
def test_a_path_shows_the_routes_words_alone(path: str, shown: str) -> None:
    """A caller's own text is cut out, wherever in the path it stands, and the path has an end."""
    assert SHOWN(path) == shown
