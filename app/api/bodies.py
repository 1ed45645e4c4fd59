"""Bodies of requests: JSON (RFC 8259) of a bounded size that comes in time, and nothing else. What one holds is never said back."""

from __future__ import annotations

import asyncio
import json
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from app.errors import BodyTooLarge, MediaTypeNotSupported, RequestMalformed, RequestTimeout

__all__ = ["MOST_BODY_BYTES", "read_json", "read_model"]

MOST_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
JSON_TYPE = "application/json"
UTF_8 = {"", "utf-8", "utf8"}

M = TypeVar("M", bound=BaseModel)


async def read_model(request: Request, model: type[M], limit: int = MOST_BODY_BYTES) -> M:
    """The body as a model.

    Raises:
        MediaTypeNotSupported, BodyTooLarge, RequestTimeout, RequestMalformed: as `read_json`.
        RequestMalformed: a member is missing, unknown or wrong; the detail names the model's own members only.
    """
    try:
        return model.model_validate(await read_json(request, limit))
    except ValidationError as error:
        raise RequestMalformed(_reason(error, model)) from None


async def read_json(request: Request, limit: int = MOST_BODY_BYTES) -> object:
    """The body, which must be one JSON document; to be called at the beginning, since the body must be whole 10 s later.

    Args:
        request: whose body nobody has read yet.
        limit: the most bytes that the route takes.

    Raises:
        MediaTypeNotSupported: it isn't said to be JSON, or is encoded.
        BodyTooLarge: it is larger. The rest is passed over: a client that is still writing would lose the answer if its connection ended.
        RequestTimeout: it is slower. The connection ends with the answer.
        RequestMalformed: it is no JSON, or names a member twice.
    """
    _check_type(request)
    if int(request.headers.get("content-length", "0")) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _read(request, limit)
    except TimeoutError:
        detail = f"the body was not whole after {BODY_SECONDS:g} s"
        raise RequestTimeout(detail) from None
    return _parsed(body)


def _check_type(request: Request) -> None:
    """The type, in UTF-8 and unencoded: a compressed body would be larger than it seems."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    encoded = request.headers.get("content-encoding", "identity").lower() != "identity"
    if kind.strip().lower() != JSON_TYPE or charset not in UTF_8 or encoded:
        detail = f"the body must be {JSON_TYPE}, in UTF-8 and not encoded"
        raise MediaTypeNotSupported(detail)


async def _read(request: Request, limit: int) -> bytes:
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise _too_large(limit)
    except ClientDisconnect:
        detail = "the body broke off"
        raise RequestMalformed(detail) from None
    return bytes(body)


def _parsed(body: bytes) -> object:
    try:
        # The first is strict about what RFC 8259 leaves open (UTF-8, depth, surrogates, NaN), the second knows of names.
        orjson.loads(body)
        return json.loads(body, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError):
        detail = "the body is no JSON document in which each name stands once"
        raise RequestMalformed(detail) from None


def _without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object's members. Of two with one name, two readers may take different ones (RFC 8259, section 4)."""
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError
    return members


def _reason(error: ValidationError, model: type[BaseModel]) -> str:
    """What is wrong, in the names of the model and never in the words of the body."""
    own = {field.alias or name for name, field in model.model_fields.items()}
    wrong = {str(one["loc"][0]) for one in error.errors(include_input=False, include_url=False, include_context=False) if one["loc"]}
    named = sorted(wrong & own)
    if named:
        return f"missing or wrong in the body: {', '.join(named)}"
    return f"the body must be an object with these members only: {', '.join(sorted(own))}"


def _too_large(limit: int) -> BodyTooLarge:
    detail = f"the body may have {limit} bytes"
    return BodyTooLarge(detail)
