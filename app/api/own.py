"""The gateway's own routes: health, documentation, problems."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.staticfiles import StaticFiles

from app.api.dependencies import TheServices
from app.api.description import problem_answer
from app.api.pages import ASSETS, DOCUMENTATION_START, START, documentation_page, hash_of, page_response
from app.api.problems import STYLE, problem_page, problems_page
from app.errors import NotFound

__all__ = ["add_own_routes"]

DOCS = "/gateway/docs"
PROBLEM_STYLE = hash_of(STYLE)


async def live() -> JSONResponse:
    """The process runs."""
    return JSONResponse({"status": "live"})


async def ready(services: TheServices) -> JSONResponse:
    """Calls are taken; if not, why not."""
    reasons = services.readiness.reasons()
    if reasons:
        return JSONResponse({"status": "not-ready", "reasons": reasons}, 503)
    return JSONResponse({"status": "ready"})


async def problems() -> HTMLResponse:
    """Every problem code."""
    return page_response(problems_page(), style_src=PROBLEM_STYLE)


async def problem(code: str) -> Response:
    """What a problem code means and what to do."""
    page = problem_page(code)
    if page is None:
        detail = "there is no problem of this code"
        raise NotFound(detail)
    return page_response(page, style_src=PROBLEM_STYLE)


async def docs() -> HTMLResponse:
    """The API, to read and to try."""
    return documentation_page()


async def start() -> Response:
    """The script that starts the documentation's page."""
    return Response(DOCUMENTATION_START, media_type="text/javascript")


def add_own_routes(app: FastAPI) -> None:
    """Add them, under `/gateway/`."""
    app.add_api_route("/gateway/health/live", live, operation_id="live", tags=["Gateway"])
    unready: dict[int | str, dict[str, Any]] = {503: {"description": "Not ready; `reasons` says why."}}
    app.add_api_route("/gateway/health/ready", ready, operation_id="ready", tags=["Gateway"], responses=unready)
    app.add_api_route("/gateway/problems", problems, response_class=HTMLResponse, operation_id="list-problems", tags=["Gateway"])
    no_such: dict[int | str, dict[str, Any]] = {"4XX": problem_answer(["not-found"])}
    page = "/gateway/problems/{code}"
    app.add_api_route(page, problem, response_class=HTMLResponse, operation_id="explain-problem", tags=["Gateway"], responses=no_such)
    app.add_api_route(DOCS, docs, include_in_schema=False)
    app.add_api_route(START, start, include_in_schema=False)
    app.mount(ASSETS, StaticFiles(packages=[("fastapi_offline", "static")]), name="docs-assets")
