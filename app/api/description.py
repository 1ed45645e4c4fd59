"""Our own API in OpenAPI: what a route built from an operation says of itself, and what all routes share."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from app.api.problems import PROBLEM_MEDIA_TYPE, PROBLEM_SCHEMA
from app.domain import Operation, Parameter
from app.errors import PROBLEMS

__all__ = ["CREDENTIALS", "KEY_HEADER", "describe_api", "described", "json_body", "problem_answer"]

NOT_OF_CALLS = {"not-found", "method-not-allowed", "role-required"}
CREDENTIALS: list[dict[str, list[str]]] = [{"gatewayKey": []}, {"gatewayKeyAsToken": []}]
KEY_HEADER: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "A string in double quotes, of 1 to 255 bytes: for 24 hours the same request with it gets the same answer.",
    "schema": {"type": "string", "examples": ['"8e03978e-40d5-43dd-bc93-6894a57f9324"']},
}
HEADERS_IN: list[dict[str, Any]] = [
    {
        "name": "Gateway-Token",
        "in": "header",
        "description": "The name of the token to use; needed where the caller may use several and has no default.",
        "schema": {"type": "string"},
    },
    {
        "name": "Prefer",
        "in": "header",
        "description": "`wait=<seconds>` (RFC 7240): how long the caller will wait in all. `respond-async`: answer with a job after that.",
        "schema": {"type": "string", "examples": ["wait=10", "respond-async", "respond-async, wait=10"]},
    },
    KEY_HEADER,
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "1 to 128 visible ASCII characters; echoed, and made by the gateway where it is absent or seems to be a secret.",
        "schema": {"type": "string"},
    },
]
JOB_OUT: dict[str, str] = {
    "Location": "Where the job is.",
    "Preference-Applied": "What was heeded of `Prefer`.",
}
HEADERS_OUT: dict[str, str] = {
    "X-Request-ID": "The request's ID, in every answer and record.",
    "Gateway-Token": "The name of the token that the call went with.",
    "Gateway-Attempts": "How often the call was sent to Flxpoint.",
    "Gateway-Uncertain": "`true` where Flxpoint may have done the work though no answer says so.",
    "Server-Timing": "Milliseconds in the queue and upstream: `queue;dur=…, upstream;dur=…`.",
    "RateLimit-Policy": "The lane's quota: `q` sends in `w` seconds.",
    "RateLimit": "What remains of it, and in how many seconds it is whole again.",
    "Idempotent-Replayed": "`true` where it is the answer to an earlier request with the same `Idempotency-Key`.",
}


def described(operation: Operation) -> dict[str, Any]:
    """What FastAPI is to write of an operation's route: its parameters, answers and problems."""
    success = operation.responses.get("200")
    responses: dict[int | str, dict[str, Any]] = {200: {**(success if isinstance(success, dict) else {}), "headers": _headers(HEADERS_OUT)}}
    responses[202] = {
        "description": "The call goes on as this job.",
        "headers": _headers(JOB_OUT),
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ShownJob"}}},
    }
    for status, codes in sorted(_codes_by_status().items()):
        responses[status] = problem_answer(codes)
    responses["4XX"] = problem_answer(["upstream-<status>"])
    return {
        "responses": responses,
        "openapi_extra": {
            "parameters": [*(_parameter(one) for one in operation.parameters), *HEADERS_IN],
            "security": CREDENTIALS,
            "x-exactly-one-of": [one.name for one in operation.parameters],
        },
    }


def describe_api(app: FastAPI) -> dict[str, Any]:
    """The whole description of an application's routes."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    components = document.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = {
        "gatewayKey": {"type": "http", "scheme": "bearer", "description": "A gateway key, `fgk_<id>_<secret>`, or a page's ticket."},
        "gatewayKeyAsToken": {
            "type": "apiKey",
            "in": "header",
            "name": "X-API-TOKEN",
            "description": "The same where a client of Flxpoint puts its token. Never a Flxpoint token.",
        },
    }
    return document


def _headers(texts: dict[str, str]) -> dict[str, Any]:
    return {name: {"description": text, "schema": {"type": "string"}} for name, text in texts.items()}


def _codes_by_status() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for code, kind in PROBLEMS.items():
        if code not in NOT_OF_CALLS and code != "upstream-4xx":
            found.setdefault(kind.status, []).append(code)
    return found


def problem_answer(codes: list[str]) -> dict[str, Any]:
    """An answer that is a problem of one of these codes."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": ", ".join(f"`{code}`" for code in codes), "content": {PROBLEM_MEDIA_TYPE: {"schema": schema}}}


def json_body(model: type[BaseModel]) -> dict[str, Any]:
    """A request's body, which the route reads by itself: a JSON object of this model."""
    schema = model.model_json_schema()
    named = schema.pop("$defs", {})
    return {"required": True, "content": {"application/json": {"schema": _inlined(schema, named)}}}


def _inlined(schema: Any, named: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """A schema with what it refers to put in its place, and without the defaults of members that have none."""
    if isinstance(schema, list):
        return [_inlined(one, named) for one in schema]
    if not isinstance(schema, dict):
        return schema
    whole = {**named.get(str(schema.get("$ref", "")).rpartition("/")[2], {}), **schema}
    return {name: _inlined(one, named) for name, one in whole.items() if name != "$ref" and (name, one) != ("default", None)}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    """As the gateway takes it from callers: comma-separated (or repeated), whatever style goes upstream."""
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "description": parameter.description,
        "style": "form",
        "explode": False,
        "schema": {
            "type": "array",
            "minItems": 1,
            "maxItems": parameter.max_items,
            "items": {"type": "integer", "format": "int64", "minimum": 1},
        },
    }
