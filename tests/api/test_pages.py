"""What a browser is told about the gateway's pages, and that they work under it."""

from __future__ import annotations

import asyncio
import re
import shutil
from html.parser import HTMLParser

import pytest

from app.api.pages import hash_of
from tests.rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = ["/gateway/docs", "/gateway/problems", "/gateway/problems/not-found"]


class Inline(HTMLParser):
    """Collects what stands in a page itself: scripts and styles by their kind, and attributes that hold either."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._open: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep handlers and style attributes; begin a script without `src`, or a style."""
        names = {name for name, _ in attrs}
        self.found += [("attribute", name) for name in names if name == "style" or name.startswith("on")]
        self._open = tag if tag == "style" or (tag == "script" and "src" not in names) else None

    def handle_data(self, data: str) -> None:
        """Keep what stands in a script or a style."""
        if self._open:
            self.found.append((self._open, data))
            self._open = None


def policy_of(header: str) -> dict[str, list[str]]:
    """A policy's directives with their sources."""
    return {name: sources for name, *sources in (directive.split() for directive in header.split(";"))}


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_may_load_its_own_parts_and_nobody_may_frame_it(rig: Rig, path: str) -> None:
    """All is forbidden but what the page names; nothing is stored, sniffed, referred, or opened beside it."""
    page = await rig.client.get(rig.url + path)
    policy = policy_of(page.headers["Content-Security-Policy"])

    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "https:"} & {source for sources in policy.values() for source in sources}
    assert {name: page.headers[name] for name in ("X-Frame-Options", "X-Content-Type-Options", "Referrer-Policy", "Cache-Control")} == {
        "X-Frame-Options": "DENY",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
    }
    assert page.headers["Cross-Origin-Opener-Policy"] == page.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in page.headers["Permissions-Policy"]


@pytest.mark.parametrize("path", PAGES)
async def test_what_stands_in_a_page_is_allowed_by_its_hash(rig: Rig, path: str) -> None:
    """No script stands in a page, no handler and no style attribute; a style only with its hash in the policy."""
    page = await rig.client.get(rig.url + path)
    policy, parser = policy_of(page.headers["Content-Security-Policy"]), Inline()
    parser.feed(page.text)

    assert {kind for kind, _ in parser.found} <= {"style"}
    assert all(hash_of(style) in policy["style-src"] for _, style in parser.found)


async def test_answers_that_are_no_pages_are_kept_from_pages_elsewhere(rig: Rig) -> None:
    """JSON and problems can't be embedded by another site, nor taken for something else."""
    for path in ("/gateway/health/live", "/gateway/openapi.json", "/nothing"):
        answer = await rig.client.get(rig.url + path)

        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")
@pytest.mark.parametrize("path", ["/gateway/docs", "/gateway/problems"])
async def test_a_browser_shows_the_page_under_its_policy(rig: Rig, path: str) -> None:
    """The real page in a real browser: the documentation lists every route, and nothing breaks the policy."""
    assert BROWSER
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=10000", "--dump-dom"]
    running = await asyncio.create_subprocess_exec(
        BROWSER, *options, rig.url + path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        out, err = await running.communicate()
    document = (await rig.client.get(f"{rig.url}/gateway/openapi.json")).json()
    routes = sum(len(methods) for methods in document["paths"].values())

    assert "Content Security Policy" not in err.decode()
    if path.endswith("docs"):
        assert len(re.findall(r'class="opblock-summary-path"', out.decode())) == routes
    else:
        assert "upstream-rejected-token" in out.decode()
