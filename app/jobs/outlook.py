"""When a job will end if things stay as they are: the sends that its token has before it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.catalogue import Catalogue
from app.jobs.job import OPEN
from app.storage.tables import jobs

__all__ = ["Outlook", "outlook"]


@dataclass(frozen=True, slots=True)
class Outlook:
    """The sends that each open job still takes, by the job's ID, for every token."""

    sends: Mapping[str, Mapping[str, int]]

    def sends_until(self, token_id: str, job_id: str) -> int:
        """How many sends go with a token until a job has had all of its own, if each open job has one in turn."""
        of_token = self.sends.get(token_id, {})
        own = of_token.get(job_id, 0)
        return sum(min(sends, own) for sends in of_token.values())


async def outlook(connection: AsyncConnection, token_ids: Collection[str], catalogue: Catalogue) -> Outlook:
    """What is open now for these tokens."""
    found: dict[str, dict[str, int]] = {}
    left = (jobs.c.total - jobs.c.answered - jobs.c.failed - jobs.c.cancelled).label("left")
    query = select(jobs.c.id, jobs.c.token_id, jobs.c.operation, jobs.c.parameter, left)
    for row in await connection.execute(query.where(jobs.c.token_id.in_(token_ids), jobs.c.state.in_(OPEN))):
        found.setdefault(row.token_id, {})[row.id] = math.ceil(row.left / _ids_a_send(catalogue, row.operation, row.parameter))
    return Outlook(found)


def _ids_a_send(catalogue: Catalogue, operation: str, parameter: str) -> int:
    if operation not in catalogue:
        return 1
    return next((one.max_items for one in catalogue[operation].parameters if one.name == parameter), 1)
