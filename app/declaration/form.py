"""The configuration file's form. Every member is documented in `docs/configuration.md`, which a test holds to this."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from app.callers import HEAVIEST, LONGEST_CLAIM, GrantAsked, parse_hashed
from app.declaration.document import Document, Location
from app.domain import NAME_PATTERN, Burst, Pacing, Role, TokenKind, is_origin
from app.settings import is_rate
from app.vault import HIGHEST_RATE

__all__ = ["CallerForm", "Form", "GrantForm", "KeyForm", "Reference", "TokenForm", "read_form"]


def _name(text: str) -> str:
    return _held(text, NAME_PATTERN.fullmatch(text), "should have 1 to 64 letters, digits, dots, dashes and underscores")


def _rate(text: str) -> str:
    return _held(text, is_rate(text), "should be one limit of at least one, such as 100/second")


def _network(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError:
        return _held(text, condition=False, why="should be a network, such as 10.0.0.0/8, without bits beyond the mask")


def _origin(text: str) -> str:
    why = "should be an origin, such as https://shop.example, in small letters, with a port only where it isn't the scheme's own"
    return _held(text, is_origin(text), why)


def _moment(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    known = moment is not None and moment.tzinfo is not None
    _held(text, known, "should be a date and time with its offset, such as 2027-01-01T00:00:00Z")
    assert moment is not None  # noqa: S101 - for the type checker
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _hashed(text: str) -> str:
    return _held(text, parse_hashed(text), "should be fgk_<id>:<SHA-256 in hex>, as `flxpoint-gateway key new` prints it")


def _held(text: str, condition: object, why: str) -> str:
    if not condition:
        raise ValueError(why)
    return text


Name = Annotated[str, AfterValidator(_name)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_CLAIM)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class Reference(_Strict):
    """Where a secret is read from: a file, or a variable of the environment."""

    file: Text | None = None
    variable: Text | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        _exactly_one_of(self, "file", "variable")
        return self


class TokenForm(_Strict):
    """A Flxpoint token."""

    name: Name
    kind: TokenKind
    value: Reference
    rate: Annotated[int, Field(ge=1, le=HIGHEST_RATE)] = 2
    burst: Burst = Burst.WINDOW
    pacing: Pacing = Pacing.LEARNED


class GrantForm(_Strict):
    """One token that a caller may use, for all operations or those named."""

    token: Name
    operations: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    def as_asked(self) -> GrantAsked:
        """The grant in the order in which it is kept."""
        return GrantAsked(self.token, None if self.operations is None else tuple(sorted(set(self.operations))))


class KeyForm(_Strict):
    """A caller's key: by hash, or whole in a file or a variable."""

    sha256: Annotated[str, AfterValidator(_hashed)] | None = None
    file: Text | None = None
    variable: Text | None = None
    expires: Annotated[str, AfterValidator(_moment)] | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        _exactly_one_of(self, "sha256", "file", "variable")
        return self


class CallerForm(_Strict):
    """A service or frontend that may call the gateway."""

    name: Name
    grants: tuple[GrantForm, ...] = ()
    default_token: Name | None = None
    role: Role | None = None
    weight: Annotated[int, Field(ge=1, le=HEAVIEST)] = 1
    rate: Annotated[str, AfterValidator(_rate)] | None = None
    networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ()
    claims: dict[Text, Text] = Field(default_factory=dict)
    keys: tuple[KeyForm, ...] = ()


class Form(_Strict):
    """The whole file."""

    tokens: tuple[TokenForm, ...] = ()
    callers: tuple[CallerForm, ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        # What isn't declared is disabled: a file that was cut off must not be taken for one that declares nothing.
        if not self.model_fields_set:
            message = "should have tokens or callers; to declare none, say so: tokens: []"
            raise ValueError(message)
        return self


def read_form(document: Document, operations: Collection[str]) -> Form:
    """The form that a document has.

    Args:
        document: what the file holds.
        operations: the catalogue's, of which grants may name some.

    Raises:
        StartRefused: in one line, the file, the line, the member's path and what should stand there.
    """
    try:
        # By way of JSON, where strictness takes a list for a tuple and a text for a choice, but neither "2" nor true for 2.
        form = Form.model_validate_json(json.dumps(document.content))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise document.refusal(first["loc"], _why(first)) from None
    for location, why in _faults(form, operations):
        raise document.refusal(location, why)
    return form


PLAIN_SECRET = {
    "Reference": "should be {file: …} or {variable: …}: a secret never stands in this file",
    "KeyForm": "should be {sha256: …}, {file: …} or {variable: …}: a key never stands in this file",
}


WHY = {
    "extra_forbidden": "there is no such member",
    "missing": "is missing",
    "tuple_type": "should be a list",
    "dict_type": "should be a mapping",
    "string_type": "should be text; quote what looks like something else",
    "int_type": "should be a whole number",
    "too_short": "should have one at least, or not be there",
    "json_invalid": "holds text that isn't Unicode",
}


def _why(error: ErrorDetails) -> str:
    if error["type"] == "model_type":
        return PLAIN_SECRET.get(error["ctx"]["class_name"], "should be a mapping")
    said = error["msg"].removeprefix("Value error, ").replace("Input should", "should").replace("String should", "should")
    return WHY.get(error["type"], said)


def _exactly_one_of(form: BaseModel, *names: str) -> None:
    given = [name for name in names if getattr(form, name) is not None]
    if len(given) != 1:
        message = f"should have exactly one of {', '.join(names)}"
        raise ValueError(message)


def _faults(form: Form, operations: Collection[str]) -> Iterator[tuple[Location, str]]:
    """What no single member shows."""
    yield from _twice(("tokens",), [one.name for one in form.tokens], "name")
    yield from _twice(("callers",), [one.name for one in form.callers], "name")
    for number, caller in enumerate(form.callers):
        at: Location = ("callers", number)
        yield from _twice((*at, "grants"), [one.token for one in caller.grants], "token")
        if caller.default_token is not None and caller.default_token not in {one.token for one in caller.grants}:
            yield (*at, "default_token"), "should be among the grants"
        for place, grant in enumerate(caller.grants):
            for step, operation in enumerate(grant.operations or ()):
                if operation not in operations:
                    yield (*at, "grants", place, "operations", step), f"should be in the catalogue, which has {', '.join(operations)}"


def _twice(at: Location, names: Sequence[str], member: str) -> Iterator[tuple[Location, str]]:
    for number, name in enumerate(names):
        if name in names[:number]:
            yield (*at, number, member), f"{name} stands twice"
