"""The route by which a backend gets a ticket for its page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.actors import actor_of
from app.api.bodies import read_model
from app.api.dependencies import KnownCaller, TheServices
from app.api.description import CREDENTIALS, problem_answer
from app.callers import TicketAsked

__all__ = ["add_ticket_routes"]

LARGEST_ID = 2**63 - 1
MOST_IDS = 250  # of 19 digits each: a ticket still fits the 8 KiB that proxies commonly give a header
REFUSED = [
    "token-ambiguous",
    "request-malformed",
    "credentials-missing",
    "credentials-invalid",
    "upstream-token-presented",
    "operation-not-granted",
    "token-not-granted",
    "origin-not-allowed",
    "request-timeout",
    "body-too-large",
    "media-type-not-supported",
    "caller-rate-exceeded",
]

Name = Annotated[str, Field(min_length=1, max_length=64)]
Id = Annotated[int, Field(ge=1, le=LARGEST_ID), WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1})]


class AskedTicket(BaseModel):
    """What the ticket is to be good for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    origin: str = Field(max_length=512, description="The page's origin as browsers send it, one of those that the caller may have.")
    token: Name | None = Field(None, description="The token's name; default: the caller's default or only one.")
    operations: Annotated[list[Name], Field(min_length=1, max_length=100)] | None = Field(
        None, description="The operations; default: all that the caller may use with the token."
    )
    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IDS)] | None = Field(
        None, description="The very IDs that may be given; default: any."
    )
    parameter: Name | None = Field(None, description="The parameter that the IDs are for; default: the operations' first.")
    expires_in: int = Field(300, ge=1, le=3600, description="Seconds that the ticket is good for, at most.")

    def asked(self) -> TicketAsked:
        """As the callers' room takes it."""
        return TicketAsked(
            origin=self.origin,
            lifetime=self.expires_in,
            token=self.token,
            operations=None if self.operations is None else tuple(self.operations),
            parameter=self.parameter,
            ids=None if self.ids is None else tuple(self.ids),
        )


class GivenTicket(BaseModel):
    """A ticket and what it is good for."""

    ticket: str = Field(description="The credential, for the page: `Authorization: Bearer <ticket>`.")
    expires_at: datetime = Field(description="When it ends, in UTC.")
    origin: str = Field(description="The origin of the page that it is good on.")
    token: str = Field(description="The token's name.")
    operations: list[str] = Field(description="The operations that it may call.")
    parameter: str | None = Field(description="The parameter that `ids` are for; null where there are none.")
    ids: list[int] | None = Field(description="The IDs that may be given; null where any may.")


async def issue(request: Request, services: TheServices, caller: KnownCaller) -> GivenTicket:
    """Get a ticket for a page, which calls the gateway itself with it.

    For backends, with their key or JWT. A ticket is good on one origin, and gives at most what its caller has: it ends with its caller and
    with the credential that it was asked with, and loses what is taken from its caller.
    """
    asked = (await read_model(request, AskedTicket)).asked()
    actor = actor_of(request, caller)
    ticket, text = await services.tickets.issue(
        caller, asked, request_id=request.state.request_id, trace_id=actor.trace_id, address=actor.address
    )
    return GivenTicket(
        ticket=text,
        expires_at=datetime.fromtimestamp(ticket.expires_at, UTC),
        origin=ticket.origin,
        token=ticket.token_name,
        operations=list(ticket.operations),
        parameter=ticket.parameter,
        ids=None if ticket.ids is None else list(ticket.ids),
    )


def add_ticket_routes(app: FastAPI) -> None:
    """Add it."""
    body = {"required": True, "content": {"application/json": {"schema": AskedTicket.model_json_schema()}}}
    responses: dict[int | str, dict[str, Any]] = {"4XX": problem_answer(REFUSED), 503: problem_answer(["audit-unavailable"])}
    app.add_api_route(
        "/gateway/tickets",
        issue,
        methods=["POST"],
        status_code=201,
        operation_id="issue-ticket",
        tags=["Gateway"],
        responses=responses,
        openapi_extra={"security": CREDENTIALS, "requestBody": body},
    )
