"""Reading the record back."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from app.storage.tables import audit_records

__all__ = ["list_records", "show_records"]


async def list_records(
    connection: AsyncConnection, *, limit: int, caller: str | None = None, token: str | None = None, code: str | None = None
) -> list[dict[str, Any]]:
    """The newest records, newest first: at most `limit`, only those of a caller, token or code where one is named."""
    query = select(audit_records.c.body).order_by(audit_records.c.number.desc()).limit(limit)
    wanted = {audit_records.c.caller: caller, audit_records.c.token: token, audit_records.c.code: code}
    for column, value in wanted.items():
        if value is not None:
            query = query.where(column == value)
    return [json.loads(body) for body in (await connection.execute(query)).scalars()]


async def show_records(connection: AsyncConnection, reference: str) -> list[dict[str, Any]]:
    """The record of that ID, or every record of the request of that ID, oldest first."""
    query = select(audit_records.c.body).order_by(audit_records.c.number)
    for column in (audit_records.c.id, audit_records.c.request_id):
        found = (await connection.execute(query.where(column == reference))).scalars().all()
        if found:
            return [json.loads(body) for body in found]
    return []
