"""The catalogue: operations as data, read from an OpenAPI document with `x-gateway-*` extensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.domain import Operation, Parameter, TokenKind
from app.errors import StartRefused

__all__ = ["Catalogue", "load_catalogue", "parse_catalogue"]

PROBE = "x-gateway-probe"
METHODS = ("get", "put", "post", "delete", "patch")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True, frozen=True)


class _ListSchema(_Strict):
    type: Literal["array"]
    max_items: Annotated[int, Field(alias="maxItems", ge=1, le=10_000)]


class _QueryParameter(_Strict):
    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
    place: Annotated[Literal["query"], Field(alias="in")]
    list_schema: Annotated[_ListSchema, Field(alias="schema")]
    style: Literal["form"] = "form"
    explode: bool = True
    description: str = ""


class _Described(_Strict):
    operation_id: Annotated[str, Field(alias="operationId", pattern=r"^[a-z][a-z0-9-]{0,63}$")]
    summary: str = ""
    description: str = ""
    responses: dict[str, object]
    token_kinds: Annotated[frozenset[TokenKind], Field(alias="x-gateway-token-kinds", min_length=1)]
    max_answer_bytes: Annotated[int, Field(alias="x-gateway-max-answer-bytes", ge=1, le=64 * 2**20)] = 2**20


class _Operation(_Described):
    parameters: tuple[_QueryParameter, ...]
    exactly_one_of: Annotated[tuple[str, ...], Field(alias="x-gateway-exactly-one-of", min_length=1)]
    idempotent: Annotated[bool, Field(alias="x-gateway-idempotent")] = False
    coalesce: Annotated[tuple[str, ...], Field(alias="x-gateway-coalesce")] = ()


class _Probe(_Described):
    parameters: Annotated[tuple[object, ...], Field(max_length=0)] = ()
    probes: Annotated[frozenset[TokenKind], Field(alias=PROBE, min_length=1)]


M = TypeVar("M", bound=_Described)


class Catalogue:
    """The operations that may be called, by their ID.

    Iterating gives them in the order of the file. `probes`, which operators test tokens with and callers can't call, are apart.
    """

    def __init__(self, operations: Mapping[str, Operation], probes: tuple[Operation, ...] = ()) -> None:
        self._operations = dict(operations)
        self.probes = probes

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations.values())

    def __contains__(self, operation_id: str) -> bool:
        return operation_id in self._operations

    def __getitem__(self, operation_id: str) -> Operation:
        return self._operations[operation_id]


def load_catalogue(path: Path) -> Catalogue:
    """Read the catalogue from an OpenAPI 3.1 file.

    Raises:
        StartRefused: the file can't be read, or an operation in it isn't described as the gateway needs; the message names the place.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, AttributeError, KeyError, RecursionError, yaml.YAMLError) as error:
        message = f"GATEWAY_CATALOGUE: {path} can't be read: {' '.join(str(error).split())}"
        raise StartRefused(message) from error
    try:
        return parse_catalogue(document)
    except ValueError as error:
        message = f"GATEWAY_CATALOGUE: {path}: {error}"
        raise StartRefused(message) from error


def parse_catalogue(document: object) -> Catalogue:
    """Make a catalogue of a parsed OpenAPI document.

    Raises:
        ValueError: in one line, the place in the document and what should stand there.
    """
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict) or not paths:
        message = "paths: should hold at least one operation"
        raise ValueError(message)
    operations: dict[str, Operation] = {}
    for path, methods in paths.items():
        for method in METHODS:
            if isinstance(methods, dict) and method in methods:
                operation = _entry(str(path), method, methods[method])
                if operation.id in operations:
                    message = f"paths.{path}.{method}.operationId: {operation.id} stands twice"
                    raise ValueError(message)
                operations[operation.id] = operation
    probes = tuple(operations.pop(one.id) for one in list(operations.values()) if one.probes)
    if not operations:
        message = "paths: should hold at least one operation"
        raise ValueError(message)
    return Catalogue(operations, _unambiguous(probes))


def _unambiguous(probes: tuple[Operation, ...]) -> tuple[Operation, ...]:
    for kind in TokenKind:
        first = [one.id for one in probes if kind in one.probes]
        if len(first) > 1:
            message = f"paths: a test of tokens of kind {kind} should begin with one operation, not with {' and '.join(first)}: {PROBE}"
            raise ValueError(message)
    return probes


def _entry(path: str, method: str, described: object) -> Operation:
    place = f"paths.{path}.{method}"
    if not path.startswith("/") or path.startswith("/gateway") or "{" in path:
        message = f"{place}: the path should begin with / but not with /gateway, and hold no variables in this version"
        raise ValueError(message)
    if isinstance(described, dict) and PROBE in described:
        return _probe(path, method, described)
    return _operation(path, method, described)


def _probe(path: str, method: str, described: object) -> Operation:
    place = f"paths.{path}.{method}"
    if method != "get":
        message = f"{place}.{PROBE}: a probe should be a GET, which changes nothing"
        raise ValueError(message)
    read = _read(_Probe, place, described)
    return Operation(
        id=read.operation_id,
        method=method.upper(),
        path=path,
        summary=read.summary,
        description=read.description,
        token_kinds=read.token_kinds,
        parameters=(),
        idempotent=False,  # a test shows what its one send met, instead of trying again
        max_answer_bytes=read.max_answer_bytes,
        responses=read.responses,
        probes=read.probes,
    )


def _operation(path: str, method: str, described: object) -> Operation:
    place = f"paths.{path}.{method}"
    read = _read(_Operation, place, described)
    return Operation(
        id=read.operation_id,
        method=method.upper(),
        path=path,
        summary=read.summary,
        description=read.description,
        token_kinds=read.token_kinds,
        parameters=_chosen_parameters(place, read),
        idempotent=read.idempotent,
        max_answer_bytes=read.max_answer_bytes,
        responses=read.responses,
    )


def _read(model: type[M], place: str, described: object) -> M:
    try:
        return model.model_validate(described)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join([place, *(str(step) for step in first["loc"])])
        message = f"{where}: {first['msg']}"
        raise ValueError(message) from error


def _chosen_parameters(place: str, read: _Operation) -> tuple[Parameter, ...]:
    declared = [one.name for one in read.parameters]
    if sorted(declared) != sorted(read.exactly_one_of) or len(set(declared)) != len(declared):
        message = f"{place}.x-gateway-exactly-one-of: should name each of the declared parameters once: {', '.join(declared)}"
        raise ValueError(message)
    strange = sorted(set(read.coalesce) - set(declared))
    if strange:
        message = f"{place}.x-gateway-coalesce: should name declared parameters only, not {', '.join(strange)}"
        raise ValueError(message)
    return tuple(
        Parameter(one.name, one.list_schema.max_items, explode=one.explode, description=one.description, coalesce=one.name in read.coalesce)
        for one in read.parameters
    )
