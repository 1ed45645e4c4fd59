"""The records' JSON Schema (draft 2020-12), made from their types: one for each name, and what all have in common."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from app.audit.records import KINDS, Name, Told

__all__ = ["DIALECT", "members_of", "names_of", "schema", "schema_text"]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
WHOLE = "A record of the gateway as it is stored, in canonical JSON (RFC 8785): what happened, and its place in its chain."
PLACE: dict[str, dict[str, Any]] = {
    "chain": {"type": "string", "description": "The chain that it stands in: that of the process that wrote it, or `administration`."},
    "seq": {"type": "integer", "minimum": 1, "description": "Its place in that chain."},
    "number": {"type": "integer", "minimum": 1, "description": "Its place among all records of the database."},
}


class _Stored(GenerateJsonSchema):
    """Of records as they are stored: a member that is None is absent, and the others are always there."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def field_is_required(
        self,
        field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField,
        total: bool,  # noqa: ARG002, FBT001 - pydantic's own signature
    ) -> bool:
        inner: Any = field["schema"]
        while inner["type"] == "default":
            inner = inner["schema"]
        return bool(inner["type"] != "nullable")

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ANN401, ARG002 - pydantic's own signature
        return False


def schema() -> dict[str, Any]:
    """The schema of any record; under `$defs` that of each name stands by itself, and so do the values that several have."""
    named: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    for kind in KINDS:
        described = TypeAdapter(kind).json_schema(schema_generator=_Stored)
        shared |= {name: _closed(value) for name, value in described.pop("$defs", {}).items()}
        named |= {name.value: _of_name(name, described) for name in names_of(kind)}
    return {
        "$schema": DIALECT,
        "title": "A record",
        "description": WHOLE,
        "oneOf": [{"$ref": f"#/$defs/{name.value}"} for name in Name],
        "$defs": {name.value: named[name.value] for name in Name} | shared,
    }


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def names_of(kind: type[Told]) -> tuple[Name, ...]:
    """The names that a kind of record may have."""
    return get_args(get_type_hints(kind)["name"])


def members_of(kind: type[Told]) -> list[str]:
    """The members of a kind of record that not every record has."""
    common = {one.name for one in fields(Told)} | {"name"}
    return [one.name for one in fields(kind) if one.name not in common]


def _of_name(name: Name, described: dict[str, Any]) -> dict[str, Any]:
    said = {"type": "string", "const": name.value, "description": "What it tells of."}
    members = {**described["properties"], "name": said, **PLACE}
    required = [*described["required"], *PLACE]
    return _closed({**described, "title": name.value, "properties": members, "required": required})


def _closed(described: dict[str, Any]) -> dict[str, Any]:
    """Sorted as the records themselves, and closed to members that aren't described."""
    members = dict(sorted(described["properties"].items()))
    return {**described, "properties": members, "required": sorted(described["required"]), "additionalProperties": False}
