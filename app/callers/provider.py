"""The identity provider's keys as they are now: discovered, fetched, kept fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from urllib.parse import urlsplit

import orjson
import structlog

from app.callers.jwks import KeySet, UnusableKeys, read_key_set
from app.domain import Document, NotFetched
from app.errors import TokenUnavailable

__all__ = ["DocumentSource", "ProviderKeys"]

WELL_KNOWN = "/.well-known/openid-configuration"
SHORTEST_KEEP = 300.0
LONGEST_KEEP = 3_600.0
LONGEST_RETRY = 60.0
BETWEEN_QUESTIONS = 60.0

log = structlog.get_logger(__name__)


class DocumentSource(Protocol):
    """Where documents are fetched."""

    async def get(self, url: str) -> Document:
        """The document at an address.

        Raises:
            NotFetched
        """


class _AtFault(Exception):
    """The provider's documents can't be used; the message says why."""


class ProviderKeys:
    """The keys of an OpenID Connect provider.

    They are fetched in the background: at the start, then every hour or as often as the provider says (`max-age`, 5 min to 1 h), after
    a failure in 1 s, 2 s … 60 s. A JWT that none of them verifies, but a new one might, has them fetched at once, but once a minute at
    most, so that made-up JWTs can't have the provider flooded. While the provider is out, or gives what can't be used, those known stay in
    use.

    Args:
        issuer: the provider's URL, exactly as its documents and JWTs have it.
        documents: where documents are fetched.
        clock: monotonic, in seconds.
    """

    def __init__(self, issuer: str, documents: DocumentSource, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._documents = documents
        self._clock = clock
        self._keys: KeySet | None = None
        self._max_age: float | None = None
        self._failures = 0
        self._next_question = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._has_failed = asyncio.Event()

    @property
    def current(self) -> KeySet | None:
        """The keys known now; another object after each fetch. None until the first."""
        return self._keys

    @property
    def pause(self) -> float:
        """Seconds from the last fetch to the next."""
        if self._failures:
            return min(2.0 ** min(self._failures - 1, 10), LONGEST_RETRY)
        return LONGEST_KEEP if self._max_age is None else min(max(self._max_age, SHORTEST_KEEP), LONGEST_KEEP)

    async def having(self, kid: str | None) -> KeySet:
        """The keys, fetched anew where none has that ID and a minute has passed since that was done last.

        Raises:
            TokenUnavailable: no keys are known yet. It is not the caller's fault, as `credentials-invalid` would say, and will pass: of the
                codes that say so this is the one about a credential.
        """
        if self._keys is None or self._keys.lacks(kid):
            await self._ask()
        if self._keys is None:
            detail = "the identity provider's keys are not known yet, so no JWT can be verified; nothing was sent"
            raise TokenUnavailable(detail, retry_after=self.pause)
        return self._keys

    async def renewed(self, seen: KeySet) -> KeySet:
        """The keys, if others than those seen are known; else fetched anew if a minute has passed since that was done last."""
        if self._keys is seen:
            await self._ask()
        return self._keys or seen

    async def refresh(self) -> None:
        """Fetch the keys now, or wait for the fetch under way. A failure is logged, and leaves those known."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        # Others may wait for it too: whoever stops waiting doesn't stop the fetch.
        await asyncio.shield(self._fetching)

    @asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Fetch in the background while the context lasts."""
        keeping = asyncio.create_task(self._keep_fresh())
        try:
            yield
        finally:
            for task in filter(None, (keeping, self._fetching)):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _keep_fresh(self) -> None:
        while True:
            await self.refresh()
            await self._rest()

    async def _rest(self) -> None:
        """Pause; anew after each failure meanwhile, such as of a question for an unknown key, since that shortens the pause."""
        failed = True
        while failed:
            self._has_failed.clear()
            failed = await self._fails_within(self.pause)

    async def _fails_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._has_failed.wait()
        except TimeoutError:
            return False

    async def _ask(self) -> None:
        if self._fetching is None:
            now = self._clock()
            if now < self._next_question:
                return
            self._next_question = now + BETWEEN_QUESTIONS
        await self.refresh()

    async def _fetch(self) -> None:
        try:
            self._keys, self._max_age = await self._obtain()
            self._failures = 0
            log.info("the identity provider's keys were fetched", keys=len(self._keys))
        except (NotFetched, UnusableKeys, _AtFault) as error:
            self._failed(reason=str(error))
        except Exception:
            # The task's outermost edge: whatever fails, the known keys stay and the next fetch comes.
            log.exception("fetching the identity provider's keys failed")
            self._failed(reason="a defect of the gateway's own")
        finally:
            self._fetching = None

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self._has_failed.set()
        known = len(self._keys) if self._keys else 0
        log.warning("the identity provider's keys can't be had; those known stay in use", reason=reason, known=known, retry_in=self.pause)

    async def _obtain(self) -> tuple[KeySet, float | None]:
        document = await self._documents.get(await self._discover())
        return read_key_set(document.body), document.max_age

    async def _discover(self) -> str:
        """Where the provider's keys are (OpenID Connect Discovery 1.0, section 4)."""
        configuration = _object((await self._documents.get(self._issuer.removesuffix("/") + WELL_KNOWN)).body)
        if configuration.get("issuer") != self._issuer:
            message = "the discovery document's issuer is not exactly GATEWAY_OIDC_ISSUER"
            raise _AtFault(message)
        where = configuration.get("jwks_uri")
        if not isinstance(where, str) or not self._may_fetch(where):
            message = "the discovery document's jwks_uri is no https address"
            raise _AtFault(message)
        return where

    def _may_fetch(self, where: str) -> bool:
        """Keys come over TLS, unless the issuer itself is on this machine, which the settings make sure of."""
        try:
            scheme, host = urlsplit(where).scheme, urlsplit(where).hostname
        except ValueError:
            return False
        return bool(host) and scheme in {"https", urlsplit(self._issuer).scheme}


def _object(body: bytes) -> dict[str, object]:
    try:
        found = orjson.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        message = "the discovery document is no JSON object"
        raise _AtFault(message)
    return found
