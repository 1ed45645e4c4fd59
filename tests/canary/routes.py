"""Driving every route of an application, with whatever its callers might send, the secret in all places where one could put it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI
from starlette.routing import BaseRoute, Mount, Route

__all__ = ["Ask", "Drive", "routes_of"]

PARAMETER = re.compile(r"\{[^}]+\}")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
NOT_DRIVEN = {"/gateway/docs/assets": "files of a package, which hold nothing of this gateway's"}


@dataclass(frozen=True)
class Ask:
    """One request."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = None


def routes_of(app: FastAPI) -> list[tuple[str, str]]:
    """Every route's method and path, the changing ones last, and removals after all."""
    found = set(itertools.chain.from_iterable(map(_methods_of, app.routes)))
    return sorted(found, key=lambda one: (METHODS.index(one[0]), one[1]))


def _methods_of(route: BaseRoute) -> Iterator[tuple[str, str]]:
    if isinstance(route, Mount):
        assert route.path in NOT_DRIVEN, f"nobody drives what is mounted at {route.path}"
        return
    assert isinstance(route, Route), f"nobody drives {route}"
    yield from ((method, route.path) for method in route.methods or ())


@dataclass(frozen=True)
class Drive:
    """Makes up requests.

    Args:
        document: the application's own description.
        credentials: headers that prove somebody, the mightiest last.
        secret: put into every place where a caller may put a token. Its own texts, which come back by design (the page's origin, a
            name in a path), it chooses itself.
        held: a token's value that the gateway holds, put where it alone doesn't come back: in the request's ID.
        names: what may stand in a path.
    """

    document: dict[str, Any]
    credentials: tuple[tuple[str, str], ...]
    secret: str
    held: str
    names: tuple[str, ...] = ("shop", "nowhere")

    def asks(self, method: str, path: str) -> Iterator[Ask]:
        """The requests for one route."""
        mightiest = (self.credentials[-1],)
        strangers = ((), (("X-API-TOKEN", self.secret),), (("Authorization", f"Bearer {self.secret}"),))
        for target in self._targets(path):
            for credential in (*strangers, *((one,) for one in self.credentials)):
                yield Ask(method, target, credential)
            for query in (f"orderIds={quote(self.secret)}", f"{quote(self.secret)}=1", "orderIds=1001&channelIds=1"):
                yield Ask(method, f"{target}?{query}", mightiest)
            for header in ("Gateway-Token", "Prefer", "Accept", "Cookie", "If-Match", "Idempotency-Key"):
                yield Ask(method, target, (*mightiest, (header, self.secret)))
            for proof in ((), mightiest):
                yield Ask(method, target, (*proof, ("X-Request-ID", self.held)))
            yield Ask(method, target, (("X-API-TOKEN", self.secret), ("X-Request-ID", self.secret)))
            yield Ask(method, f"{target}/{quote(self.secret, safe='')}", mightiest)
            for kind, body in self._bodies(method, path):
                yield Ask(method, target, (*mightiest, ("Content-Type", kind)), body)

    def _targets(self, path: str) -> set[str]:
        return {PARAMETER.sub(name, path) for name in self.names}

    def _bodies(self, method: str, path: str) -> Iterator[tuple[str, bytes]]:
        if method in {"GET", "HEAD", "OPTIONS"}:
            return
        yield "text/plain", self.secret.encode()
        yield "application/json", f'{{"value": "{self.secret}'.encode()
        yield "application/json", json.dumps({"name": "planted", "value": self.secret, self.secret: 1}).encode()
        yield "application/json", json.dumps([self.secret] * 3_000).encode()
        schema = self.document["paths"].get(path, {}).get(method.lower(), {}).get("requestBody", {}).get("content", {})
        for kind, described in schema.items():
            yield kind, json.dumps(self._made(described.get("schema", {}), "")).encode()

    def _made(self, schema: dict[str, Any], name: str) -> object:
        """Something that fits a schema, with the secret as every text that may be one."""
        made: object = "planted" if name == "name" else self.secret
        match schema:
            case {"$ref": str(reference)}:
                made = self._made(self.document["components"]["schemas"][reference.rpartition("/")[2]], name)
            case {"anyOf": [choice, *_]} | {"oneOf": [choice, *_]} | {"allOf": [choice, *_]}:
                made = self._made(choice, name)
            case {"enum": [only, *_]} | {"const": only}:
                made = only
            case {"type": "object"}:
                made = {key: self._made(one, key) for key, one in schema.get("properties", {}).items()}
            case {"type": "array"}:
                made = [self._made(schema.get("items", {}), name)]
            case {"type": "integer" | "number"}:
                made = schema.get("default", schema.get("minimum", 1))
            case {"type": "boolean"}:
                made = True
        return made
