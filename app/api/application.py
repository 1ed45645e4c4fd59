"""Building the application: routes, handlers, the frame."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.types import Lifespan

from app.api.admin import add_admin_routes
from app.api.client import ClientAddress
from app.api.cors import CrossOriginHeaders, add_preflights
from app.api.dependencies import CallerLimit
from app.api.description import describe_api
from app.api.events import add_event_route
from app.api.failures import FailureLimit
from app.api.handlers import answer_in_problems
from app.api.jobs import add_job_routes
from app.api.me import add_me_route
from app.api.operations import add_operations
from app.api.own import add_own_routes
from app.api.services import Readiness, Services
from app.api.tickets import add_ticket_routes
from app.catalogue import Catalogue
from app.settings import Settings

__all__ = ["Readiness", "Services", "build_app"]

NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""What FastAPI would hand to any OpenTelemetry provider by itself: addresses with their queries, whose IDs and slips are nobody else's."""

DESCRIPTION = (
    "Calls Flxpoint for those who must not hold its tokens. Paths outside `/gateway/` are Flxpoint's own: "
    "change the base URL and the token, and a client of Flxpoint works here."
)


def build_app(catalogue: Catalogue, settings: Settings, *, version: str, lifespan: Lifespan[FastAPI]) -> FastAPI:
    """The application, whose `lifespan` must set `app.state.services`.

    Args:
        catalogue: the operations to offer.
        settings: the limit on callers, the proxies that are believed, and the hosts that are answered for.
        version: the product's version.
        lifespan: opens and closes what the services need.
    """
    app = FastAPI(
        title="Flxpoint gateway",
        version=version,
        description=DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/gateway/openapi.json",
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    app.state.caller_limit = CallerLimit(settings.caller_rate)
    app.state.failure_limit = FailureLimit()
    add_operations(app, catalogue)
    answer_in_problems(app, settings.allowed_hosts)
    add_own_routes(app)
    add_me_route(app, catalogue)
    add_admin_routes(app)
    add_ticket_routes(app)
    add_job_routes(app)
    add_event_route(app)
    add_preflights(app)
    # The last that is added is the outermost: also what the frame refuses is counted by the client's address, and readable for pages.
    app.add_middleware(ClientAddress, trusted=settings.trusted_proxies)
    app.add_middleware(CrossOriginHeaders)
    app.openapi = lambda: _described_once(app)  # type: ignore[method-assign]
    return app


def _described_once(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe_api(app)
    return app.openapi_schema
