"""Bodies of requests: JSON (RFC 8259) of a bounded size that comes in time, and nothing else. What one holds is never said back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from app.errors import BodyTooLarge, MediaTypeNotSupported, RequestMalformed, RequestTimeout

__all__ = ["JSON_TYPE", "MOST_BODY_BYTES", "fitted", "media_type", "read_bytes", "read_json", "read_model", "without_twins"]

MOST_BODY_BYTES = 64 * 1024
BODY_SECONDS = 10.0
JSON_TYPE = "application/json"
UTF_8 = {"utf-8", "utf8"}
PARAMETERS = {"charset", "header"}

M = TypeVar("M", bound=BaseModel)


async def read_model(request: Request, model: type[M], limit: int = MOST_BODY_BYTES) -> M:
    """The body as a model.

    Raises:
        MediaTypeNotSupported, BodyTooLarge, RequestTimeout, RequestMalformed: as `read_json`.
        RequestMalformed: a member is missing, unknown or wrong; the detail names the model's own members only.
    """
    return fitted(await read_json(request, limit), model)


def fitted(document: object, model: type[M]) -> M:
    """A document as a model.

    Raises:
        RequestMalformed: a member is missing, unknown or wrong; the detail names the model's own members only.
    """
    try:
        return model.model_validate(document)
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
    media_type(request, [JSON_TYPE])
    return _parsed(await read_bytes(request, limit))


async def read_bytes(request: Request, limit: int, seconds: float | None = None) -> bytes:
    """The body, whole, which must be so that many seconds later: 10, unless told otherwise.

    Raises:
        BodyTooLarge, RequestTimeout: as `read_json`.
        RequestMalformed: it broke off.
    """
    seconds = BODY_SECONDS if seconds is None else seconds
    if int(request.headers.get("content-length", "0")) > limit:
        raise _too_large(limit)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, limit)
    except TimeoutError:
        detail = f"the body was not whole after {seconds:g} s"
        raise RequestTimeout(detail) from None


def media_type(request: Request, taken: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The body's type, and its parameters but for the charset; UTF-8 and unencoded: a compressed body would be larger than it seems.

    Raises:
        MediaTypeNotSupported: it is none of those that are taken, or in another charset, or encoded.
    """
    kind, *parts = (part.strip().lower() for part in request.headers.get("content-type", "").split(";"))
    pairs = [part.partition("=") for part in parts if part]
    parameters = {name: value.strip('"') for name, _, value in pairs}
    understood = len(parameters) == len(pairs) and parameters.keys() <= PARAMETERS and parameters.pop("charset", "utf-8") in UTF_8
    if kind not in taken or not understood or request.headers.get("content-encoding", "identity").lower() != "identity":
        detail = f"the body must be {' or '.join(taken)}, in UTF-8 and not encoded"
        raise MediaTypeNotSupported(detail)
    return kind, parameters


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
        return json.loads(body, object_pairs_hook=without_twins)
    except (ValueError, RecursionError):
        detail = "the body is no JSON document in which each name stands once"
        raise RequestMalformed(detail) from None


def without_twins(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object's members. Of two with one name, two readers may take different ones (RFC 8259, section 4).

    Raises:
        ValueError: there are two with one name.
    """
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
