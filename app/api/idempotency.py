"""The header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header-07): read, and answered for."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from hashlib import sha256
from urllib.parse import unquote_plus

from starlette.responses import Response

from app.domain import Asked, Caller, CredentialKind
from app.errors import RequestMalformed
from app.joboffice import BatchAsked
from app.jobs.idempotency import KeptAnswer, Key

__all__ = ["REPLAYED", "kept_of", "key_of_batch", "key_of_call"]

REPLAYED = {"Idempotent-Replayed": "true"}
"""As Stripe's API says it, and others after it; the draft has no word for it."""
KEPT = ("Content-Type", "Gateway-Token", "Gateway-Attempts", "Gateway-Uncertain")
MOST_BYTES = 255
STRING = r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"'
PARAMETER = rf"; *[a-z*][a-z0-9_.*-]*(?:=(?:{STRING.replace('((?:', '(?:(?:')}|[A-Za-z0-9!#$%&'*+.^_`|~:/?-]+))?"
ITEM = re.compile(rf" *{STRING}(?:{PARAMETER})* *", re.ASCII)


def key_of_call(given: Sequence[str], asked: Asked) -> Key:
    """The key of a call: it stands for its method and path, its query in one form, the token that it names, and whether it has a body.

    Raises:
        RequestMalformed: the header isn't one string (RFC 9651, section 3.3.3) of 1 to 255 bytes.
    """
    operation = asked.operation
    return _key(given, asked.caller, [operation.method, operation.path, _canonical(asked.query), asked.token_names, asked.has_body])


def key_of_batch(given: Sequence[str], caller: Caller, asked: BatchAsked) -> Key | None:
    """The key of a batch: it stands for what is asked for, in whatever form that came; None where there is no such header.

    Raises:
        RequestMalformed: as `key_of_call`.
    """
    if not given:
        return None
    return _key(given, caller, ["batch", asked.operation, asked.parameter, list(asked.ids), asked.token, asked.priority])


def kept_of(response: Response) -> KeptAnswer:
    """A call's answer, as it is given again."""
    headers = {name: response.headers[name] for name in KEPT if name in response.headers}
    return KeptAnswer(response.status_code, headers, bytes(response.body).decode())


def _key(given: Sequence[str], caller: Caller, request: object) -> Key:
    """A ticket's keys are its own: a page learns nothing of what its backend asked for."""
    scope = caller.credential_id if caller.credential is CredentialKind.TICKET else ""
    return Key(caller.id, _hashed([scope, _read(given)]), _hashed(request))


def _read(given: Sequence[str]) -> str:
    match = ITEM.fullmatch(given[0]) if len(given) == 1 else None
    key = re.sub(r"\\(.)", r"\1", match[1]) if match else ""
    if not 1 <= len(key) <= MOST_BYTES:
        # The key itself is not repeated: it may be a secret that went into the wrong place.
        detail = f"Idempotency-Key must stand once and be a string in double quotes of 1 to {MOST_BYTES} bytes of visible ASCII and spaces"
        raise RequestMalformed(detail)
    return key


def _canonical(query: bytes) -> list[tuple[str, str]]:
    """Each name with all its values, by the names: the same for every way to write a list."""
    values: dict[str, list[str]] = {}
    for pair in filter(None, query.decode("latin-1").split("&")):
        name, _, value = pair.partition("=")
        values.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return sorted((name, ",".join(texts)) for name, texts in values.items())


def _hashed(what: object) -> str:
    return sha256(json.dumps(what).encode()).hexdigest()
