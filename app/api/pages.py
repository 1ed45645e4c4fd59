"""Pages: HTML with a policy that lets a browser load nothing but what the page names, and lets nobody frame it."""

from __future__ import annotations

import base64
import hashlib

from starlette.responses import HTMLResponse

__all__ = ["ASSETS", "DOCUMENTATION_START", "START", "documentation_page", "hash_of", "page_response"]

ASSETS = "/gateway/docs/assets"
START = "/gateway/docs/start.js"
PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"

# The script stands in a file of its own, so that the policy needn't allow any that stands in a page.
DOCUMENTATION_START = """\
SwaggerUIBundle({
  url: "/gateway/openapi.json",
  dom_id: "#documentation",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
  // What is typed in as a credential is gone with the page.
  persistAuthorization: false,
});
"""
DOCUMENTATION = f"""\
<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Flxpoint gateway</title>
<link rel="stylesheet" href="{ASSETS}/swagger-ui.css"><link rel="icon" href="{ASSETS}/favicon.png">
<div id="documentation"></div>
<script src="{ASSETS}/swagger-ui-bundle.js"></script><script src="{START}"></script>
</html>
"""


def page_response(html: str, **sources: str) -> HTMLResponse:
    """A page.

    Args:
        html: the page.
        sources: where its parts may come from, such as `style_src="'self'"` (Content Security Policy Level 3); all else: nowhere.
    """
    allowed = "".join(f"; {name.replace('_', '-')} {source}" for name, source in sources.items())
    headers = {
        "Content-Security-Policy": f"default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'{allowed}",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Permissions-Policy": PERMISSIONS,
    }
    return HTMLResponse(html, headers=headers)


def documentation_page() -> HTMLResponse:
    """The API, to read and to try: Swagger UI, which sets styles as it goes and has its icons in itself."""
    return page_response(DOCUMENTATION, script_src="'self'", style_src="'self'", connect_src="'self'", img_src="'self' data:")


def hash_of(inline: str) -> str:
    """The source that allows this very script or style to stand in a page."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"
