"""What operators see of the running lanes and do to them, the same for every way in."""

from __future__ import annotations

import asyncio

from app.audit import AuditLog
from app.dispatch import Dispatcher, LaneReport
from app.domain import Actor
from app.errors import NotFound
from app.vault import Vault

__all__ = ["Supervision"]


class Supervision:
    """The operators' hand on the lanes of this process."""

    def __init__(self, vault: Vault, dispatcher: Dispatcher, audit: AuditLog) -> None:
        self._vault = vault
        self._dispatcher = dispatcher
        self._audit = audit

    async def report(self) -> list[LaneReport]:
        """Every token's lane as of now, by the tokens' names. Between one and the next the loop does other work."""
        await self._dispatcher.look()
        reports = []
        for report in self._dispatcher.reports():
            reports.append(report)
            await asyncio.sleep(0)
        return reports

    async def resume(self, name: str, *, by: Actor) -> list[str]:
        """Close a token's breakers, and have that on record before.

        Args:
            name: the token's name.
            by: who does it, for the record.

        Returns:
            The operations whose calls were held back; none where no breaker was open.

        Raises:
            NotFound: there is no such token.
            AuditUnavailable: it can't be put on record; nothing was changed.
            TokenUnavailable: the token was removed meanwhile.
        """
        token = next((one for one in self._vault.tokens if one.name == name), None)
        if token is None:
            message = "there is no token of that name"
            raise NotFound(message)
        held_back = [breaker.operation for lane in await self.report() if lane.token == name for breaker in lane.breakers]
        await self._audit.resumed(name, held_back, by=by)
        self._dispatcher.resume(token.id)
        return held_back
