"""Documents of the identity provider: fetched whole or not at all. Foreign exceptions end here."""

from __future__ import annotations

import asyncio
import re
import ssl

import aiohttp
import httpx2
from httpx_aiohttp.httpx2 import AiohttpTransport

from app.domain import Document, NotFetched

__all__ = ["Documents", "open_documents"]

USER_AGENT = "flxpoint-gateway"
OK = 200
LARGEST = 256 * 1024
WHOLE_SECONDS = 5.0
MAX_AGE = re.compile(r"(?:^|[,\s])max-age=\"?(\d{1,9})", re.IGNORECASE | re.ASCII)


class Documents:
    """Gets documents over HTTP.

    Args:
        client: an httpx2 client. It is closed with this object.
        whole: seconds that one document may take in all.
    """

    def __init__(self, client: httpx2.AsyncClient, whole: float = WHOLE_SECONDS) -> None:
        self._client = client
        self._whole = whole

    async def get(self, url: str) -> Document:
        """The document at an address. A redirect is not followed: it could lead to somebody else's.

        Raises:
            NotFetched: no answer of status 200 and at most 256 KiB came in time.
        """
        try:
            async with asyncio.timeout(self._whole), self._client.stream("GET", url, follow_redirects=False) as response:
                return await _read(response)
        except (httpx2.HTTPError, httpx2.InvalidURL, aiohttp.ClientError, OSError, ValueError) as error:
            # The transport gives a refused connection the name of a time-out.
            cause = error.__cause__ if isinstance(error, httpx2.HTTPError) and error.__cause__ else error
            message = f"no answer ({type(cause).__name__})"
            raise NotFetched(message) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def open_documents(whole: float = WHOLE_SECONDS) -> Documents:
    """A client for documents, TLS verified against the system's authorities; the environment's proxies are not used."""
    verify = ssl.create_default_context()
    client = httpx2.AsyncClient(transport=AiohttpTransport(client=lambda: _session(verify)), trust_env=False, timeout=whole)
    # Set afterwards: given to the constructor they would join the library's own.
    client.headers = httpx2.Headers({"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": USER_AGENT})
    return Documents(client, whole)


def _session(verify: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Hours lie between two fetches: no connection lives that long.
        connector=aiohttp.TCPConnector(ssl=verify, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        trust_env=False,
    )


async def _read(response: httpx2.Response) -> Document:
    if response.status_code != OK:
        message = f"status {response.status_code}"
        raise NotFetched(message)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > LARGEST:
            message = f"more than {LARGEST} bytes"
            raise NotFetched(message)
    return Document(bytes(body), _max_age(response.headers.get("cache-control", "")))


def _max_age(cache_control: str) -> float | None:
    """The seconds that `Cache-Control: max-age` names (RFC 9111, section 5.2.2.1)."""
    match = MAX_AGE.search(cache_control)
    return float(match[1]) if match else None
