"""The CPU time that proving a caller takes: by its key, a JWT of the identity provider, a page's ticket. In this process, without HTTP."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt import algorithms

from app.administration import Administration
from app.callers import (
    Authentication,
    Directory,
    GatewayKey,
    IdentityProvider,
    NewCaller,
    Origins,
    Presented,
    ProviderKeys,
    TicketKey,
    TicketVerifier,
)
from app.domain import Caller, Document, PageTicket, new_id
from app.opening import open_state
from app.settings import Settings
from app.storage import reading
from benchmarks.figures import Figure, Report
from benchmarks.scale import Scale
from benchmarks.stage import OWN_VARIABLES

__all__ = ["measure"]

ISSUER, AUDIENCE = "https://login.example", "flxpoint-gateway"
ORIGIN = "https://shop.example"
TICKET_KEY = TicketKey(bytes(range(32)))
LARGEST_ID = 2**63 - 1
CALLERS = 500
BLOCK = 50
RSA, EC = rsa.generate_private_key(65_537, 2048), ec.generate_private_key(ec.SECP256R1())
SIGNERS: dict[str, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey] = {"RS256": RSA, "ES256": EC}


class Published:
    """The provider's documents, without the provider."""

    async def get(self, url: str) -> Document:
        """The discovery document, or the key set."""
        if not url.endswith("/keys"):
            return Document(orjson.dumps({"issuer": ISSUER, "jwks_uri": f"{ISSUER}/keys"}))
        keys = [
            algorithms.RSAAlgorithm.to_jwk(RSA.public_key(), as_dict=True) | {"kid": "RS256"},
            algorithms.ECAlgorithm.to_jwk(EC.public_key(), as_dict=True) | {"kid": "ES256"},
        ]
        return Document(orjson.dumps({"keys": keys}))


async def measure(scale: Scale) -> Report:
    """Measure each with five hundred callers, all with a key and claims; a JWT and a ticket when first seen and when it comes again."""
    async with _authentication() as (authentication, directory, keys):
        by_key = [Presented((f"Bearer {key.reveal()}",)) for key in keys]
        new = {algorithm: _jwts(algorithm, scale.jwts) for algorithm in SIGNERS}
        await _cost(authentication, by_key)
        found = {"a key": await _cost(authentication, by_key * max(1, scale.repetitions // CALLERS))}
        found |= {f"a JWT, {algorithm}, first seen": await _cost(authentication, given) for algorithm, given in new.items()}
        again = new["RS256"][:BLOCK]
        await _cost(authentication, again)
        found["a JWT that comes again"] = await _cost(authentication, again * (scale.repetitions // BLOCK))
        found |= await _by_ticket(authentication, [directory.prove(key) for key in keys], scale)
    figures = [Figure(name, cost, "us", scale.at_most(20 if name == "a key" else 300)) for name, cost in found.items()]
    remark = f"medians of blocks of {BLOCK}; {CALLERS} callers, {scale.jwts:,} JWTs and tickets of each sort; not pinned"
    return Report("authentication: CPU time to prove a caller", figures, [remark])


async def _by_ticket(authentication: Authentication, callers: Sequence[Caller], scale: Scale) -> dict[str, float]:
    """What tickets cost, without IDs and with as many as they may name."""
    found = {}
    for sort, ids in {"a ticket": None, "a ticket of 250 IDs": tuple(range(LARGEST_ID - 249, LARGEST_ID + 1))}.items():
        tickets = [_ticket(callers[number % CALLERS], ids) for number in range(scale.jwts)]
        found[f"{sort}, first seen"] = await _cost(authentication, tickets)
        again = tickets[-BLOCK:]
        found[f"{sort} that comes again"] = await _cost(authentication, again * (scale.repetitions // BLOCK))
    return found


@asynccontextmanager
async def _authentication() -> AsyncIterator[tuple[Authentication, Directory, list[GatewayKey]]]:
    """The real thing, with callers from a real database, and their keys."""
    with tempfile.TemporaryDirectory() as folder:
        async with open_state(Settings(_env_prefix=OWN_VARIABLES, state_dir=Path(folder))) as (engine, keyring):
            administration = Administration(engine, keyring, "benchmark:authentication")
            new = [NewCaller(f"caller-{number}", claims={"azp": f"caller-{number}"}) for number in range(CALLERS)]
            keys = [(await administration.add_caller(one))[1] for one in new]
            directory = Directory()
            async with reading(engine) as connection:
                await directory.load(connection)
        provider = IdentityProvider(ISSUER, AUDIENCE, ProviderKeys(ISSUER, Published()), directory)
        tickets = TicketVerifier(TICKET_KEY, directory, Origins(directory, frozenset({ORIGIN})), time.time)
        yield Authentication(directory, (tickets, provider)), directory, keys


def _jwts(algorithm: str, count: int) -> list[Presented]:
    """So many JWTs, no two the same."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": [AUDIENCE, "account"], "iat": now, "exp": now + 3_600, "realm_access": {"roles": ["linker", "viewer"]}}
    made = [claims | {"sub": f"user-{number}", "azp": f"caller-{number % CALLERS}"} for number in range(count)]
    return [Presented((f"Bearer {jwt.encode(one, SIGNERS[algorithm], algorithm, {'kid': algorithm})}",)) for one in made]


def _ticket(caller: Caller, ids: tuple[int, ...] | None) -> Presented:
    """A ticket of the caller's, as its backend gets it."""
    now = int(time.time())
    ticket = PageTicket(
        id=new_id(),
        caller_id=caller.id,
        basis=caller.basis,
        origin=ORIGIN,
        token_id=new_id(),
        operations=("link-orders",),
        parameter=None if ids is None else "orderIds",
        ids=ids,
        issued_at=now,
        expires_at=now + 3_600,
    )
    return Presented((f"Bearer {TICKET_KEY.sign(ticket)}",), origins=(ORIGIN,))


async def _cost(authentication: Authentication, presented: Sequence[Presented]) -> float:
    """What one costs, in µs of CPU time: the median of blocks."""
    costs = []
    for start in range(0, len(presented), BLOCK):
        block = presented[start : start + BLOCK]
        began = time.process_time_ns()
        for one in block:
            await authentication.authenticate(one)
        costs.append((time.process_time_ns() - began) / len(block) / 1_000)
    return statistics.median(costs)
