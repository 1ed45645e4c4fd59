"""`/gateway/admin/audit`: the record, in pages, newest first, and the story of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import FastAPI, Path, Request, Response
from pydantic import BaseModel, Field
from sqlalchemy.exc import SQLAlchemyError

from app.api.admin.access import ADMIN, Reader, common, refusals
from app.api.dependencies import TheServices
from app.api.hangup import CLIENT_CLOSED_REQUEST, HangUpWatch
from app.api.queries import page_limit, read_query
from app.audit import MOST_IN_PAGE, Name, Stored, Wanted
from app.errors import AuditUnavailable, NotFound, ParameterInvalid, RequestMalformed
from app.storage import Crowded

__all__ = ["add_audit_routes"]

AUDIT = f"{ADMIN}/audit"
USUAL_LIMIT = 50
TEXT: dict[str, Any] = {"type": "string"}
MOMENT: dict[str, Any] = {"type": "string", "examples": ["2027-01-31T12:00:00Z"]}
FILTERS: dict[str, tuple[str, dict[str, Any]]] = {
    "caller": ("Only those of this caller, and changes made to it.", TEXT),
    "token": ("Only those of this token, and changes made to it.", TEXT),
    "order": ("Only those that ask for this ID or tell of it.", {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}),
    "code": ("Only those with this code, such as `ok` or `parameter-missing`.", TEXT),
    "name": ("Only those of this name, such as `call:outcome`.", {"type": "string", "enum": [name.value for name in Name]}),
    "by": ("Only changes made by them, such as `command:ada` or `caller:ops`.", TEXT),
    "request_id": ("Only those of this request.", TEXT),
    "since": ("Only those made at this time or later, ISO 8601, in UTC where it names no zone.", MOMENT),
    "until": ("Only those made before this time.", MOMENT),
}
PAGING: dict[str, tuple[str, dict[str, Any]]] = {
    "limit": ("How many, at most.", {"type": "integer", "minimum": 1, "maximum": MOST_IN_PAGE, "default": USUAL_LIMIT}),
    "cursor": ("`next` of the page before, with the same filters.", TEXT),
}
PARAMETERS = [
    {"name": name, "in": "query", "required": False, "description": text, "schema": schema}
    for name, (text, schema) in (FILTERS | PAGING).items()
]

T = TypeVar("T")
log = structlog.get_logger(__name__)

AnyRecord = Annotated[dict[str, Any], Field(description="The members, as the record has them, and `hash`.")]


class RecordPage(BaseModel):
    """Records, newest first."""

    records: list[AnyRecord] = Field(description="At most `limit`; fewer, or none, where much had to be looked at for them.")
    next: str | None = Field(description="The next page's `cursor`; null where nothing is left.")


class RecordStory(BaseModel):
    """All that is on record of a request, oldest first."""

    records: list[AnyRecord] = Field(description="Those of the request, and those of the sends that carried its calls.")
    more: bool = Field(description="Whether there are older ones; the newest 1,000 are given.")


Reference = Annotated[str, Path(description="A request's ID, a record's, a call's or a send's; or a record's number.")]


async def list_records(request: Request, services: TheServices) -> Response:
    """The records that were asked for, newest first. Records that are added meanwhile don't move those of the pages to come."""
    given = read_query(request, [*FILTERS, *PAGING])
    limit = page_limit(given.pop("limit", str(USUAL_LIMIT)), MOST_IN_PAGE)
    cursor = given.pop("cursor", None)
    with HangUpWatch(request):
        try:
            page = await _read(services.records.page(Wanted.of(given), limit=limit, cursor=cursor))
        except ParameterInvalid as error:
            raise RequestMalformed(error.detail) from None
        return _document(page.records, f'"next":"{page.next}"' if page.next else '"next":null')
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def show_records(request: Request, services: TheServices, reference: Reference) -> Response:
    """The whole story of a request: its records, and those of the sends that carried its calls, oldest first."""
    if request.scope["query_string"]:
        detail = "this takes no query"
        raise RequestMalformed(detail)
    with HangUpWatch(request):
        story = await _read(services.records.story(reference))
        if not story.records:
            detail = "there is no record, request, call or send of that ID"
            raise NotFound(detail)
        return _document(story.records, f'"more":{"true" if story.more else "false"}')
    return Response(status_code=CLIENT_CLOSED_REQUEST)


async def _read(reading: Awaitable[T]) -> T:
    """What was read.

    Raises:
        AuditUnavailable: the database can't be read now, or others wait for it already.
    """
    try:
        return await reading
    except Crowded:
        detail = "too many read the record now"
        raise AuditUnavailable(detail, retry_after=1) from None
    except SQLAlchemyError as error:
        log.warning("the record can't be read", error=str(error.__cause__ or error))
        detail = "the record can't be read now"
        raise AuditUnavailable(detail, retry_after=1) from None


def _document(records: Sequence[Stored], beside: str) -> Response:
    """The records as they are stored: a thousand of them written anew would hold the loop up."""
    return Response(b'{"records":[%b],%b}' % (b",".join(one.json() for one in records), beside.encode()), media_type="application/json")


def add_audit_routes(app: FastAPI) -> None:
    """Add them."""
    listing, showing = common(), common()
    listing["openapi_extra"]["parameters"] = PARAMETERS
    answers = refusals("request-malformed", unrecorded=True)
    app.add_api_route(
        AUDIT, list_records, operation_id="list-records", response_model=RecordPage, dependencies=[Reader], responses=answers, **listing
    )
    answers = refusals("not-found", "request-malformed", unrecorded=True)
    app.add_api_route(
        AUDIT + "/{reference:path}",
        show_records,
        operation_id="show-records",
        response_model=RecordStory,
        dependencies=[Reader],
        responses=answers,
        **showing,
    )
