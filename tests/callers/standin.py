"""A stand-in for the company's identity provider on a real socket, and JWTs of every sort, true and forged."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import algorithms
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from app.cli.serving import free_port, running

AUDIENCE = "flxpoint-gateway"
NOW = 1_800_000_000
DISCOVERY = "/.well-known/openid-configuration"
KEYS = "/jwks"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
CURVES: dict[str, ec.EllipticCurve] = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}


@cache
def private_key(algorithm: str, number: int = 0, bits: int = 2048) -> PrivateKey:
    """A key pair for an algorithm; the same for the same arguments, since making one takes its time."""
    del number
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(CURVES[algorithm]) if algorithm in CURVES else rsa.generate_private_key(65_537, bits)


def jwk_of(private: PrivateKey, **members: Any) -> dict[str, Any]:
    """The public key as a JWK, with further members, or others; None takes one out."""
    public: Any = private.public_key()
    writers: list[Any] = [algorithms.RSAAlgorithm, algorithms.ECAlgorithm, algorithms.OKPAlgorithm]
    places = [isinstance(private, kind) for kind in (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)]
    found: dict[str, Any] = writers[places.index(True)].to_jwk(public, as_dict=True)
    return {name: value for name, value in ({**found, "use": "sig", "key_ops": None} | members).items() if value is not None}


def forged(header: dict[str, Any] | bytes, payload: dict[str, Any] | bytes, sign: Callable[[bytes], bytes] = lambda _: b"") -> str:
    """A JWT of any header and payload, signed by anything."""
    parts = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in (header, payload)]
    signed = b".".join(_segment(part) for part in parts)
    return (signed + b"." + _segment(sign(signed))).decode()


def _segment(octets: bytes) -> bytes:
    return base64.urlsafe_b64encode(octets).rstrip(b"=")


@dataclass
class StandIn:
    """The provider at `issuer`. What it publishes is changed from one request to the next by whoever tests.

    `faults` answer instead, each for its path; `asked` counts requests by path; `held` is what a slow answer waits for.
    """

    issuer: str = ""
    jwks: list[Any] = field(default_factory=list)
    discovery: dict[str, Any] = field(default_factory=dict)
    cache_control: str | None = None
    faults: dict[str, Callable[[], Response]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    slow: bool = False
    held: asyncio.Event = field(default_factory=asyncio.Event)

    def reset(self, *keys: Any) -> None:
        """Be as at the beginning, and publish these keys."""
        self.held.set()
        vars(self).update(vars(StandIn(self.issuer, list(keys))))

    def publish(self, *keys: Any) -> None:
        """From now on the key set is this."""
        self.jwks = list(keys)

    def fail(self, answer: Callable[[], Response] | None, *paths: str) -> None:
        """From now on answer so instead, or truly again; without a path, everywhere."""
        self.faults = dict.fromkeys(paths or (DISCOVERY, KEYS), answer) if answer else {}

    def claims(self, **changed: Any) -> dict[str, Any]:
        """The claims of a JWT for the shop's frontend; None takes one out."""
        usual = {"iss": self.issuer, "aud": AUDIENCE, "sub": "user-1", "azp": "shop-frontend", "iat": NOW, "exp": NOW + 300}
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def token(self, kid: str | None = "one", algorithm: str = "RS256", *, by: PrivateKey | None = None, **changed: Any) -> str:
        """A JWT that the provider's own key of that algorithm signs, or another."""
        headers = {} if kid is None else {"kid": kid}
        return jwt.encode(self.claims(**changed), by or private_key(algorithm), algorithm, headers)

    async def configuration(self, request: Request) -> Response:
        """The discovery document."""
        return await self._answer(request, {"issuer": self.issuer, "jwks_uri": f"{self.issuer}{KEYS}"} | self.discovery)

    async def keys(self, request: Request) -> Response:
        """The key set."""
        return await self._answer(request, {"keys": self.jwks})

    async def _answer(self, request: Request, document: dict[str, Any]) -> Response:
        self.asked[request.url.path] += 1
        if self.slow:
            await self.held.wait()
        if request.url.path in self.faults:
            return self.faults[request.url.path]()
        return JSONResponse(document, headers={"Cache-Control": self.cache_control} if self.cache_control else {})


@asynccontextmanager
async def standing_in(*keys: Any) -> AsyncIterator[StandIn]:
    """A provider on a free port that publishes these keys."""
    standin = StandIn(jwks=list(keys) or [jwk_of(private_key("RS256"), kid="one")])
    routes = [Route(DISCOVERY, standin.configuration), Route(KEYS, standin.keys)]
    config = uvicorn.Config(Starlette(routes=routes), ws="none", lifespan="off", log_config=None, access_log=False)
    async with running(config, free_port()) as standin.issuer:
        try:
            yield standin
        finally:
            standin.held.set()


def redirect(to: str) -> Callable[[], Response]:
    """An answer that leads elsewhere."""
    return lambda: RedirectResponse(to)
