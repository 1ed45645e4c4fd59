"""The one-parameter rule: exactly one declared parameter, holding a list of IDs. Pure: a query string in, IDs or a problem out.

The rule is Flxpoint's for "Link Unmanaged Orders/Items" (its public API reference); which parameters there are is the catalogue's.
"""

from __future__ import annotations

import re
from itertools import islice
from urllib.parse import unquote_plus

from app.domain import Operation, Parameter
from app.errors import BodyNotAllowed, ParameterConflict, ParameterInvalid, ParameterMissing, ParameterUnknown

__all__ = ["LARGEST_ID", "check_request", "read_id", "read_request"]

LARGEST_ID = 2**63 - 1
ID_PATTERN = re.compile(r"[1-9][0-9]{0,18}", re.ASCII)
SHORTEST_SECRET = 16


def check_request(operation: Operation, query: bytes, *, has_body: bool) -> tuple[Parameter, tuple[int, ...]]:
    """Decide locally whether a request keeps the operation's rules.

    Args:
        operation: the operation that is called.
        query: the raw query string, as it came.
        has_body: whether the request carries or announces a body.

    Returns:
        The one parameter, and its IDs without repetition, in the order given.

    Raises:
        BodyNotAllowed, ParameterMissing, ParameterConflict, ParameterUnknown, ParameterInvalid
    """
    if has_body:
        detail = f"{operation.method} {operation.path} takes no request body; send the IDs in the query"
        raise BodyNotAllowed(detail)
    given = _decode(query)
    parameter = _the_one(operation, list(given))
    return parameter, _ids(parameter, given[parameter.name])


def read_request(operation: Operation, query: bytes) -> tuple[Parameter, tuple[int, ...]] | None:
    """What a request asks for, as far as it can be read, though it may break the rules.

    Returns:
        Its one declared parameter, and those of its values that are IDs, without repetition, up to the cap; None where it has no declared
        parameter, or several.
    """
    given = _decode(query)
    declared = [one for one in operation.parameters if one.name in given]
    if len(declared) != 1:
        return None
    ids = dict.fromkeys(number for text in _texts(given[declared[0].name]) if (number := read_id(text)))
    return declared[0], tuple(islice(ids, declared[0].max_items))


def read_id(text: str) -> int | None:
    """The ID that the text is, if it is one: a positive 64-bit integer in plain decimal digits."""
    return number if ID_PATTERN.fullmatch(text) and (number := int(text)) <= LARGEST_ID else None


def _decode(query: bytes) -> dict[str, list[str]]:
    """Names with all their values, in order; what isn't UTF-8 becomes U+FFFD, which no name and no ID holds."""
    given: dict[str, list[str]] = {}
    for pair in query.decode("ascii", errors="replace").split("&"):
        if pair:
            name, _, value = pair.partition("=")
            given.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return given


def _the_one(operation: Operation, names: list[str]) -> Parameter:
    declared = [one.name for one in operation.parameters]
    choice = f"exactly one of {', '.join(declared)}"
    unknown = [_shown(name) for name in names if name not in declared]
    if unknown:
        # In ASCII: a terminal or a log acts on nothing in it.
        detail = f"{unknown[0]!a} is not a parameter of {operation.id}; give {choice}"
        raise ParameterUnknown(detail, unknown=unknown[:10], declared=declared)
    if not names:
        detail = f"{operation.id} takes {choice}; the call had none"
        raise ParameterMissing(detail, declared=declared)
    if len(names) > 1:
        detail = f"{operation.id} takes {choice}; the call had {', '.join(names)}"
        raise ParameterConflict(detail, given=names, declared=declared)
    return next(one for one in operation.parameters if one.name == names[0])


def _ids(parameter: Parameter, values: list[str]) -> tuple[int, ...]:
    ids = dict.fromkeys(_id(parameter, place, text) for place, text in enumerate(_texts(values), start=1))
    if len(ids) > parameter.max_items:
        detail = f"{parameter.name} takes at most {parameter.max_items} IDs; the call had {len(ids)}"
        raise ParameterInvalid(detail, parameter=parameter.name, max_items=parameter.max_items)
    return tuple(ids)


def _texts(values: list[str]) -> list[str]:
    return [text for value in values for text in value.split(",")]


def _id(parameter: Parameter, place: int, text: str) -> int:
    if number := read_id(text):
        return number
    # The value itself is not repeated: it may be a secret that went into the wrong place.
    fault = "holds something else" if text else "is empty"
    detail = f"{parameter.name} takes a comma-separated list of positive 64-bit integers; place {place} {fault}"
    raise ParameterInvalid(detail, parameter=parameter.name, place=place)


def _shown(name: str) -> str:
    """The caller's own word for a parameter, unless it is as long as a token: it may be one, in the wrong place."""
    return name if len(name) < SHORTEST_SECRET else f"(a name of {len(name)} characters)"
