"""Problems (RFC 9457): how an error becomes an answer, and the pages that explain each code."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from app.errors import PROBLEMS, GatewayError, RequestTimeout, Unauthenticated, UpstreamRefused

__all__ = ["PROBLEM_MEDIA_TYPE", "PROBLEM_SCHEMA", "STYLE", "problem_page", "problem_response", "problems_page"]

PROBLEM_MEDIA_TYPE = "application/problem+json"
STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:44rem;margin:2rem auto;padding:0 1rem}"
    "td,th{text-align:left;padding:.2rem .8rem .2rem 0}"
)
PROBLEM_PATH = "/gateway/problems/"

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "A problem (RFC 9457). Further members are the code's own.",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference", "description": "`/gateway/problems/<code>`, a page that explains it"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string", "description": "the request ID"},
    },
}


def problem_response(error: GatewayError, request_id: str, headers: Mapping[str, str] | None = None) -> Response:
    """The answer for an error, with these headers beside its own."""
    problem = {
        "type": PROBLEM_PATH + error.code,
        "title": error.title(),
        "status": error.http_status,
        "detail": error.detail,
        "instance": request_id,
        **error.members,
    }
    return Response(orjson.dumps(problem), error.http_status, {**_headers(error), **(headers or {})}, PROBLEM_MEDIA_TYPE)


def problem_page(code: str) -> str | None:
    """The page that explains a code, in HTML; None where there is no such code."""
    kind = PROBLEMS.get(code)
    if kind is None and code.removeprefix("upstream-").isdecimal() and code.startswith("upstream-4"):
        kind = UpstreamRefused
    if kind is None:
        return None
    status = "4xx" if kind is UpstreamRefused else str(kind.status)
    explanation = "".join(f"<p>{_text(part)}</p>" for part in kind.explanation().split("\n\n"))
    body = f'<p>Code <code>{_text(code)}</code>, HTTP status {status}.</p>{explanation}<p><a href="/gateway/problems">All problems</a></p>'
    return _page(kind.title(), body)


def problems_page() -> str:
    """The list of all codes, in HTML."""
    rows = "".join(
        f"<tr><td>{kind.status if code != 'upstream-4xx' else '4xx'}</td>"
        f'<td><a href="{PROBLEM_PATH}{code}"><code>{code}</code></a></td><td>{_text(kind.title())}</td></tr>'
        for code, kind in sorted(PROBLEMS.items(), key=lambda found: (found[1].status, found[0]))
    )
    return _page("Problems", f"<table><tr><th>Status</th><th>Code</th><th>Title</th></tr>{rows}</table>")


def _headers(error: GatewayError) -> dict[str, str]:
    headers = {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if error.uncertain:
        headers["Gateway-Uncertain"] = "true"
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, RequestTimeout):
        # RFC 9110, section 15.5.9: the rest of the body isn't waited for.
        headers["Connection"] = "close"
    return headers


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{_text(title)} · Flxpoint gateway</title><style>{STYLE}</style><h1>{_text(title)}</h1>{body}</html>"
    )


def _text(text: str) -> str:
    return html.escape(" ".join(text.split()))
