"""What crosses the gateway and what doesn't: headers, either way, and what a caller can find out that it has no right to."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.callers import NewCaller
from app.callers.keys import make_key
from app.simulator.tokens import SimulatedToken
from tests.rig import TOKEN, Rig, rigged
from tests.upstream.peers import answering

OTHER = SimulatedToken("other", "a-simulated-token-value-0002", "account")

CALLERS_HEADERS = [
    "Connection: X-API-TOKEN, Host, Accept, User-Agent, keep-alive",
    "Keep-Alive: timeout=5",
    "TE: trailers",
    "Trailer: X-Late",
    "Proxy-Authorization: Basic c2VjcmV0",
    "Proxy-Connection: keep-alive",
    "Forwarded: for=10.0.0.1;host=evil.example",
    "X-Forwarded-For: 10.0.0.1",
    "X-Forwarded-Host: evil.example",
    "X-Real-IP: 10.0.0.1",
    "Via: 1.1 somewhere",
    "Cookie: session=callers-own",
    "Origin: https://page.example",
    "Referer: https://page.example/secret",
    "Accept: text/html",
    "Accept-Encoding: gzip",
    "Accept-Language: de",
    "User-Agent: callers-own",
    "Content-Type: text/plain",
    "If-None-Match: x",
    "Range: bytes=0-1",
    "Expect: 100-continue",
    "X-HTTP-Method-Override: DELETE",
    "X-Original-URL: /account",
    "X-Request-ID: callers-own",
    "Gateway-Token: shop",
    "Prefer: wait=20",
    "traceparent: 00-00000000000000000000000000000001-0000000000000001-01",
]
SENT_UPSTREAM = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "content-length": "0",
    "user-agent": "flxpoint-gateway",
    "x-api-token": TOKEN.value,
}

UPSTREAMS_HEADERS = [
    "Connection: X-Secret, Content-Type",
    "X-Secret: upstreams-own",
    "Set-Cookie: session=upstreams-own; Domain=example.com",
    "Server: upstreams-own/1.0",
    "Via: 1.1 upstreams-own",
    "X-Powered-By: upstreams-own",
    "Access-Control-Allow-Origin: *",
    "Access-Control-Allow-Credentials: true",
    "Cache-Control: public, max-age=3600",
    "Location: https://upstreams-own.example/",
    "WWW-Authenticate: Basic realm=upstreams-own",
    "Content-Security-Policy: default-src *",
    "Strict-Transport-Security: max-age=0",
    "Clear-Site-Data: *",
    "X-Request-ID: upstreams-own",
    "Gateway-Token: upstreams-own",
    "RateLimit: upstreams-own",
    "Retry-After: 59",
    "Proxy-Authenticate: Basic realm=upstreams-own",
    "Alt-Svc: h3=upstreams-own",
    "Link: <https://upstreams-own.example/>; rel=preload",
]


@dataclass
class Peer:
    """An upstream of a few lines that keeps what came, and answers with a status, hostile headers and a body."""

    status: int = 200
    body: bytes = b"[1]"
    heads: list[str] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request after the other."""
        while True:
            self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode("latin-1"))
            fields = "\r\n".join([*UPSTREAMS_HEADERS, "Content-Type: application/json", f"Content-Length: {len(self.body)}"])
            writer.write(f"HTTP/1.1 {self.status} OK\r\n{fields}\r\n\r\n".encode() + self.body)


@asynccontextmanager
async def before(peer: Peer, folder: Path) -> AsyncIterator[Rig]:
    """A gateway whose upstream is the peer."""
    async with answering(peer) as upstream, rigged(folder, upstream_url=upstream, cors_origins=("https://page.example",)) as rig:
        yield rig


async def ask(rig: Rig, *headers: str, target: str = "/orders/link?orderIds=1", method: str = "PATCH") -> tuple[str, dict[str, str], str]:
    """A request with exactly these headers beside `Host`: its status line, its headers, its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.url.rpartition(":")[2]))
    writer.write("\r\n".join([f"{method} {target} HTTP/1.1", "Host: gateway", *headers, "", ""]).encode())
    async with asyncio.timeout(20):
        start = (await reader.readuntil(b"\r\n\r\n")).decode()
        while " 100 " in start.partition("\r\n")[0]:
            start = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, *fields = start.strip().split("\r\n")
        found = dict(one.lower().split(": ", 1) for one in fields)
        body = (await reader.readexactly(int(found["content-length"]))).decode()
    writer.close()
    return status, found, body


async def test_nothing_of_the_callers_headers_goes_upstream(tmp_path: Path) -> None:
    """What the upstream receives is the gateway's own, whatever the caller sent or named in `Connection` (RFC 9110, section 7.6.1)."""
    peer = Peer()
    async with before(peer, tmp_path) as rig:
        status, _, _ = await ask(rig, f"Authorization: Bearer {rig.key}", *CALLERS_HEADERS)

    [head] = peer.heads
    fields = [line.partition(": ") for line in head.strip().split("\r\n")[1:]]
    assert status == "HTTP/1.1 200 OK"
    assert {name.lower(): value for name, _, value in fields if name.lower() != "host"}.items() <= SENT_UPSTREAM.items()
    assert len(fields) == len({name.lower() for name, _, _ in fields})
    assert TOKEN.value in head


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"[1]"), (200, b"{}"), (302, b""), (401, b"{}"), (404, b'{"message": "no"}'), (500, b"{}")]
)
async def test_nothing_of_the_upstreams_headers_comes_back(tmp_path: Path, status: int, body: bytes) -> None:
    """Whatever the upstream answers, and names in `Connection`, the caller gets the gateway's own headers."""
    peer = Peer(status, body)
    async with before(peer, tmp_path) as rig:
        _, headers, _ = await ask(rig, f"Authorization: Bearer {rig.key}", "Prefer: wait=3")

    assert peer.heads
    assert "upstreams-own" not in str(headers)
    assert headers["cache-control"] == "no-store"
    assert headers["gateway-token"] == "shop"
    assert not set(headers) & {
        "set-cookie",
        "server",
        "via",
        "location",
        "access-control-allow-origin",
        "x-secret",
        "retry-after",
        "strict-transport-security",
        "www-authenticate",
        "connection",
    }


async def test_an_ungranted_token_can_not_be_told_from_none(tmp_path: Path) -> None:
    """Byte for byte, but for the request's ID and the time that it took; nothing is sent."""
    async with rigged(tmp_path, (TOKEN, OTHER)) as rig:
        await rig.administer(lambda administration: administration.revoke("order-service", "other"))
        key = f"Authorization: Bearer {rig.key}"
        answers = [await ask(rig, key, "X-Request-ID: same", f"Gateway-Token: {name}") for name in ("other", "nowhere")]
        arrivals = (await rig.statistics("other"))["arrivals"]

    assert answers[0] == answers[1]
    assert '"/gateway/problems/token-not-granted"' in answers[0][2]
    assert arrivals == 0


@pytest.mark.parametrize("role", [None, "auditor"])
async def test_without_the_role_nothing_is_said_of_what_there_is(tmp_path: Path, role: Any) -> None:
    """A caller without the role gets the same refusal for a token that exists and one that doesn't."""
    async with rigged(tmp_path) as rig:
        _, secret = await rig.administer(lambda administration: administration.add_caller(NewCaller("curious", role=role)))
        key = f"Authorization: Bearer {secret.reveal()}"
        targets = [f"/gateway/admin/lanes/{name}/resume" for name in ("shop", "nowhere")]
        answers = [await ask(rig, key, "X-Request-ID: same", target=target, method="POST") for target in targets]

    assert answers[0] == answers[1]
    assert '"/gateway/problems/role-required"' in answers[0][2]


async def test_a_real_token_can_not_be_told_from_another(tmp_path: Path) -> None:
    """Whoever presents a Flxpoint token learns nothing of whether the gateway holds it."""
    async with rigged(tmp_path) as rig:
        answers = [await ask(rig, f"X-API-TOKEN: {value}", "X-Request-ID: same") for value in (TOKEN.value, "made-up-token-value-0009")]

    assert answers[0] == answers[1]
    assert '"/gateway/problems/upstream-token-presented"' in answers[0][2]


@dataclass
class Work:
    """Counts what proving a key costs."""

    hashes: int = 0
    comparisons: int = 0

    def sha256(self, *arguments: Any) -> Any:
        """Count a hash."""
        self.hashes += 1
        return hashlib.sha256(*arguments)

    def compare_digest(self, one: bytes, other: bytes) -> bool:
        """Count a comparison of two whole hashes."""
        assert len(one) == len(other) == 32
        self.comparisons += 1
        return hmac.compare_digest(one, other)


async def test_a_wrong_key_costs_the_same_however_wrong_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an unknown ID, of a known ID, nearly right: one hash, one comparison in constant time, and the same answer."""
    async with rigged(tmp_path) as rig:
        prefix, key_id, _ = rig.key.split("_", 2)
        near = rig.key[:-1] + ("A" if rig.key[-1] != "A" else "B")
        keys = [make_key().reveal(), f"{prefix}_{key_id}_{make_key().secret}", near]
        costs, answers = [], []
        for key in keys:
            work = Work()
            monkeypatch.setattr("app.callers.keys.hashlib", SimpleNamespace(sha256=work.sha256))
            monkeypatch.setattr("app.callers.directory.hmac", SimpleNamespace(compare_digest=work.compare_digest))
            answers.append(await ask(rig, f"Authorization: Bearer {key}", "X-Request-ID: same"))
            costs.append((work.hashes, work.comparisons))

    assert costs == [(1, 1)] * 3
    assert answers[0] == answers[1] == answers[2]
    assert '"/gateway/problems/credentials-invalid"' in answers[0][2]
