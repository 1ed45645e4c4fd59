"""Batches as they come in: JSON with a list of IDs, or a file with one ID a line and the rest in the query."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, NoReturn

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from app.api.bodies import JSON_TYPE, fitted, media_type, read_bytes, without_twins
from app.api.description import json_body
from app.api.queries import read_query
from app.domain import Priority
from app.errors import MediaTypeNotSupported, RequestMalformed
from app.joboffice import BatchAsked
from app.jobs import MOST_IDS, ids_of_csv, ids_of_list, ids_of_text

__all__ = ["BATCH_BODY", "BATCH_QUERY", "AskedBatch", "read_batch"]

MOST_BATCH_BYTES = 4 * 1024 * 1024
"""41 bytes for each ID: one of 19 digits, in quotes, with a CSV's line end, takes 23."""
BATCH_SECONDS = 60.0
MOST_LISTS = 100
PIECE = 2_000
"""IDs that are looked at before the loop does other work: about 1 ms."""
CSV_TYPE = "text/csv"
TEXT_TYPE = "text/plain"
TAKEN = (JSON_TYPE, CSV_TYPE, TEXT_TYPE)
HEADERS = {None: None, "present": True, "absent": False}

Name = Annotated[str, Field(min_length=1, max_length=64)]
Id = Annotated[int, WithJsonSchema({"type": "integer", "format": "int64", "minimum": 1})]


class AskedOfBatch(BaseModel):
    """What the IDs of a batch are for."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    operation: Name = Field(description="The operation, such as `link-orders`.")
    parameter: Name = Field(description="The one parameter that the IDs are for, such as `orderIds`.")
    token: Name | None = Field(None, description="The token's name; default: the caller's default or only one.")
    priority: Annotated[Priority, Field(strict=False)] = Field(Priority.BATCH, description="Against the caller's other calls.")

    def asked(self, ids: tuple[int, ...]) -> BatchAsked:
        """As the office takes it."""
        return BatchAsked(operation=self.operation, parameter=self.parameter, ids=ids, token=self.token, priority=self.priority)


class AskedBatch(AskedOfBatch):
    """Many IDs for one operation."""

    ids: Annotated[list[Id], Field(min_length=1, max_length=MOST_IDS)] = Field(description="The IDs; those that come twice are sent once.")


def _query_parameter(name: str, required: bool) -> dict[str, Any]:  # noqa: FBT001
    field = AskedOfBatch.model_fields[name]
    schema: dict[str, Any] = {"enum": [one.value for one in Priority]} if name == "priority" else {"type": "string"}
    text = f"{field.description} For CSV and plain text{', where it must stand' if required else ''}."
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


BATCH_QUERY = [_query_parameter(name, field.is_required()) for name, field in AskedOfBatch.model_fields.items()]
"""What a file's query may have, described."""

BATCH_BODY = json_body(AskedBatch)
"""What a batch may be, described."""
BATCH_BODY["content"] |= {
    CSV_TYPE: {
        "schema": {
            "type": "string",
            "description": "The IDs stand in the first column. A first row that begins with a letter is a header; `header=present` or "
            "`header=absent` in the type (RFC 4180) says so for certain.",
            "examples": ["order\n1001\n1002\n"],
        }
    },
    TEXT_TYPE: {"schema": {"type": "string", "description": "One ID a line.", "examples": ["1001\n1002\n"]}},
}


async def read_batch(request: Request) -> BatchAsked:
    """The batch that a request asks for. While its IDs are looked at the loop does other work, too.

    Raises:
        MediaTypeNotSupported, BodyTooLarge, RequestTimeout
        RequestMalformed: it isn't what it is said to be, or broke off.
        ParameterInvalid: there is something else among the IDs, or there are too many of them.
    """
    kind, parameters = media_type(request, TAKEN)
    if kind == JSON_TYPE:
        return await _of_json(await read_bytes(request, MOST_BATCH_BYTES, BATCH_SECONDS))
    asked = fitted(read_query(request, AskedOfBatch.model_fields), AskedOfBatch)
    header = parameters.get("header")
    if header not in HEADERS:
        detail = "the parameter header of text/csv can be present or absent"
        raise MediaTypeNotSupported(detail)
    text = await read_bytes(request, MOST_BATCH_BYTES, BATCH_SECONDS)
    return asked.asked(await _gathered(ids_of_csv(text, header=HEADERS[header]) if kind == CSV_TYPE else ids_of_text(text)))


async def _of_json(body: bytes) -> BatchAsked:
    document = _flat_object(body)
    ids = document.pop("ids", [])
    asked = fitted(document, AskedOfBatch)
    if not isinstance(ids, list):
        detail = "missing or wrong in the body: ids"
        raise RequestMalformed(detail)
    return asked.asked(await _gathered(ids_of_list(ids)))


def _flat_object(body: bytes) -> dict[str, Any]:
    """The one object that the body is. With the standard library: others need several times the memory for a long list."""
    try:
        # More objects than one, and many lists, which can't be right, aren't even looked at: each would cost time and memory.
        flat = body.count(b"{") == 1 and body.count(b"[") <= MOST_LISTS
        document = json.loads(body.decode(), object_pairs_hook=without_twins, parse_constant=_no_number) if flat else None
    except (ValueError, RecursionError):
        document = None
    if not isinstance(document, dict):
        detail = "the body must be one JSON object, without others in it, in which each name stands once"
        raise RequestMalformed(detail)
    return document


def _no_number(_: str) -> NoReturn:
    """JSON has neither NaN nor infinities (RFC 8259, section 6)."""
    raise ValueError


async def _gathered(ids: Iterator[int]) -> tuple[int, ...]:
    found: dict[int, None] = {}
    while piece := dict.fromkeys(islice(ids, PIECE)):
        found |= piece
        await asyncio.sleep(0)
    return tuple(found)
