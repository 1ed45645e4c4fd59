from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from app.domain import Document, NotFetched
from app.upstream import open_documents
from benchmarks.authority import make_authority

from .peers import answering

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
LARGEST = 256 * 1024


def saying(head: str, body: bytes = b"", *, length: bool = True) -> Handler:
    """A server that answers every request so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        lines = [head, *([f"Content-Length: {len(body)}"] if length else []), "", ""]
        writer.write("\r\n".join(lines).encode() + body)
        await writer.drain()
        writer.close()

    return answer


async def fetched(handler: Handler, whole: float = 5.0) -> Document:
    """What comes of a fetch from such a server."""
    async with answering(handler) as url:
        documents = open_documents(whole)
        try:
            return await documents.get(f"{url}/document")
        finally:
            await documents.aclose()


async def test_a_document_is_fetched_whole() -> None:
    """A body of exactly the largest size comes as it is."""
    document = await fetched(saying("HTTP/1.1 200 OK", b"x" * LARGEST))

    assert document == Document(b"x" * LARGEST)


@pytest.mark.parametrize(
    ("value", "age"),
    [
        ("max-age=600", 600.0),
        ("public, Max-Age=60, must-revalidate", 60.0),
        ('max-age="7"', 7.0),
        ("no-store", None),
        ("s-maxage=9", None),
        ("max-age=soon", None),
        ("max-age=-1", None),
    ],
)
async def test_how_long_it_may_be_kept_is_told(value: str, age: float | None) -> None:
    """`max-age` is read from `Cache-Control`; what is none is as good as none."""
    assert (await fetched(saying(f"HTTP/1.1 200 OK\r\nCache-Control: {value}", b"{}"))).max_age == age


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (saying("HTTP/1.1 503 Service Unavailable", b"{}"), "status 503"),
        (saying("HTTP/1.1 204 No Content"), "status 204"),
        (saying("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/elsewhere"), "status 302"),
        (saying("HTTP/1.1 200 OK", b"x" * (LARGEST + 1)), f"more than {LARGEST} bytes"),
        (saying("HTTP/1.1 200 OK", b"x" * (LARGEST + 1), length=False), f"more than {LARGEST} bytes"),
        (saying("HTTP/1.1 200 OK\r\nContent-Length: 10", b"half", length=False), "no answer"),
        (saying("no HTTP at all"), "no answer"),
        (saying(""), "no answer"),
    ],
    ids=["status", "nothing", "redirect", "huge", "endless", "cut", "garbage", "empty"],
)
async def test_what_is_no_document_is_refused(handler: Handler, reason: str) -> None:
    """A status that isn't 200, a redirect, too much, too little, or what isn't HTTP at all ends in the one exception."""
    with pytest.raises(NotFetched, match=reason):
        await fetched(handler)


async def test_a_slow_answer_is_given_up() -> None:
    """A server that drips can't hold the fetch longer than it may take in all."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.01)

    with pytest.raises(NotFetched, match="TimeoutError"):
        await fetched(drip, whole=0.1)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "https://", "http://127.0.0.1:99999/", "http://[::1/", "ftp://127.0.0.1/", "none"])
async def test_where_nobody_answers_there_is_no_document(url: str) -> None:
    """A closed port and an address that is none end in the one exception too."""
    documents = open_documents()

    with pytest.raises(NotFetched, match="no answer"):
        await documents.get(url)

    await documents.aclose()


async def test_the_reason_is_the_true_one() -> None:
    """A refused connection isn't told as a time-out, which would have the operator look in the wrong place."""
    documents = open_documents()

    with pytest.raises(NotFetched, match=r"no answer \(ClientConnectorError\)"):
        await documents.get("http://127.0.0.1:1/")

    await documents.aclose()


async def test_a_server_without_a_trusted_certificate_is_not_believed(tmp_path: Path) -> None:
    """TLS is verified against the system's authorities: a certificate of somebody else's gets no request."""
    _, certificate, key = make_authority(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(saying("HTTP/1.1 200 OK", b"{}"), "127.0.0.1", 0, ssl=context)
    documents = open_documents()

    with pytest.raises(NotFetched, match="no answer") as refused:
        await documents.get("https://127.0.0.1:{1}/".format(*server.sockets[0].getsockname()))

    assert "CERTIFICATE_VERIFY_FAILED" in str(refused.value.__cause__)
    await documents.aclose()
    server.close()
    await server.wait_closed()


async def test_the_environments_proxy_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy variable doesn't send the fetch elsewhere."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert (await fetched(saying("HTTP/1.1 200 OK", b"{}"))).body == b"{}"
